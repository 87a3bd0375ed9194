"""Fortanix' own client, the real crate, against a real helper. It needs Cargo, but no cluster and no root.

Here a simulated enclave makes the report; the crate makes every request to AESM.
"""

import hashlib
import json
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import ReportChecker, SimulatedEnclave
from e2e import packages
from e2e.add_on import ROOT
from e2e.cluster.tools import default_cache
from testkit.helper_process import running_helper
from testkit.replay.clients import KEY
from testkit.replay.verification import QuoteVerifier

CARGO = packages.find("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
SOURCE = ROOT / "e2e" / "fortanix"

pytestmark = pytest.mark.skipif(CARGO is None, reason="there is no cargo here to build Fortanix' crate with")

ENCLAVE = SimulatedEnclave.from_name("Fortanix EDP")
REPORT_DATA, NONCE = secrets.token_bytes(64), secrets.token_bytes(16)


@pytest.fixture(scope="module")
def program():
    packages.install({"protoc": "protobuf-compiler"}, purpose="Fortanix' client")  # its build runs protoc
    # Cargo's lock file and results stay outside of the checkout; cargo finds changed files by their times.
    folder = default_cache() / "fortanix-client"
    shutil.copytree(SOURCE / "src", folder / "src", dirs_exist_ok=True)
    shutil.copy2(SOURCE / "Cargo.toml", folder)
    command = [CARGO, "build", "--target-dir", str(folder / "target"), "--quiet"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "target" / "debug" / "fortanix-client"


def members(line):
    return {name: bytes.fromhex(value) for name, value in json.loads(line).items()}


def quote_once(program, socket):
    """Fields that the program prints; it prints report inputs, reads report and nonce, and prints a quote."""
    with subprocess.Popen([program, socket], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            first = members(process.stdout.readline())
            report = ENCLAVE.create_report(TargetInfo.parse(first["target_info"]), REPORT_DATA).encode()
            out, _ = process.communicate(f"{report.hex()} {NONCE.hex()}\n")
        finally:
            process.kill()
    return first | members(out)


def test_the_real_crate_gets_a_quote_that_verifies(program):
    with running_helper() as helper:
        got = quote_once(program, helper.socket)
        verdict = QuoteVerifier(helper.state_dir).verify(got["quote"], ENCLAVE, REPORT_DATA)
    assert got["key_id"] == KEY
    assert verdict.ok, verdict.failures
    assert got["quote"][564 + 320 :][:32] == got["pub_key_id"]
    qe_report = Report.parse(got["qe_report"])
    ReportChecker.of(ENCLAVE.target_info()).check(qe_report)
    assert qe_report.body.mr_enclave == TargetInfo.parse(got["target_info"]).mr_enclave
    assert qe_report.body.report_data == hashlib.sha256(NONCE + got["quote"]).digest() + bytes(32)
