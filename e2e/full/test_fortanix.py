"""Fortanix' own client, the real crate, against a real helper. It needs neither the cluster nor root, but cargo.

The enclave's side of an attestation is here, in a simulated enclave; everything that AESM is asked is the crate's.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
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


def right_report(target_info):
    return ENCLAVE.create_report(TargetInfo.parse(target_info), REPORT_DATA).encode()


def misled_report(_):
    """For the enclave itself, whatever target it is given."""
    return ENCLAVE.create_report(ENCLAVE.target_info(), REPORT_DATA).encode()


@pytest.fixture(scope="module")
def program():
    packages.install({"protoc": "protobuf-compiler"}, purpose="Fortanix' client")  # which its build script runs
    # Cargo's lock file, and all that it makes, stay out of the checkout; by the files' times it tells what has changed.
    folder = default_cache() / "fortanix-client"
    shutil.copytree(SOURCE / "src", folder / "src", dirs_exist_ok=True)
    shutil.copy2(SOURCE / "Cargo.toml", folder)
    command = [CARGO, "build", "--target-dir", str(folder / "target"), "--quiet"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "target" / "debug" / "fortanix-client"


def members(line):
    return {name: bytes.fromhex(value) for name, value in json.loads(line or "{}").items()}


def quote_once(program, socket, report_for):
    """Key ids, init, size, quote, without any retry: what the program got, by name, and its complaint.

    It writes what a report needs, reads report and nonce, and writes the quote.
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    with subprocess.Popen([program, socket], text=True, env=environment, **pipes) as process:
        try:
            first = members(process.stdout.readline())
            told = f"{report_for(first['target_info']).hex()} {NONCE.hex()}\n" if first else ""
            out, complaint = process.communicate(told)
        finally:
            process.kill()
    return first | members(out), complaint.strip()


def test_the_real_crate_gets_a_quote_that_verifies(program):
    with running_helper() as helper:
        got, complaint = quote_once(program, helper.socket, right_report)
        assert not complaint
        verdict = QuoteVerifier(helper.state_dir).verify(got["quote"], ENCLAVE, REPORT_DATA)
    assert got["key_id"] == KEY
    assert verdict.ok, verdict.failures
    assert got["quote"][564 + 320 :][:32] == got["pub_key_id"]
    qe_report = Report.parse(got["qe_report"])
    ENCLAVE.verify_report(qe_report)
    assert qe_report.body.mr_enclave == TargetInfo.parse(got["target_info"]).mr_enclave
    assert qe_report.body.report_data == hashlib.sha256(NONCE + got["quote"]).digest() + bytes(32)


def test_a_refusal_reaches_the_program_with_its_number(program):
    """A report for another enclave than the quoting enclave: 42 for some time after a start, then 47."""
    with running_helper() as helper:
        _, complaint = quote_once(program, helper.socket, misled_report)
    assert re.fullmatch(r"aesm error code \w+_(42|47)", complaint)
