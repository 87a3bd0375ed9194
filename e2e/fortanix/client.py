"""Build the Rust program beside this module, and get a quote with it.

The enclave's side of an attestation is here, in a simulated enclave; everything that AESM is asked is the crate's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError, UnavailableError
from confcom.sgx.quote import REPORT_BODY
from confcom.sgx.report import NONCE_SIZE, REPORT_BODY_SIZE, REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from e2e import packages
from e2e.cluster.tools import default_cache
from e2e.progress import timed

SOURCE = Path(__file__).resolve().parent
PURPOSE = "Fortanix' client"

RUN_SECONDS = 120.0
"""After which a run is killed: the crate waits up to 30 s for each answer, and for one of them without a limit."""

BUILD_LOG_LINES = 30
"""How much of a failed build's output an error shows."""


@dataclass(frozen=True, slots=True)
class FortanixQuote:
    """What one run of the program got.

    Args:
        key_id: the attestation key's, as the service lists it: 256 bytes.
        target_info: of the quoting enclave, which the report was made for: 512 bytes.
        pub_key_id: 32 bytes.
        report_data: 64 random bytes that the quote must carry.
        nonce: 16 random bytes that the QE's report must be over.
        quote: as the crate returns it: whatever fills the buffer of the announced size.
        qe_report: the QE's report for the enclave: 432 bytes.
    """

    key_id: bytes
    target_info: bytes
    pub_key_id: bytes
    report_data: bytes
    nonce: bytes
    quote: bytes
    qe_report: bytes


def find_cargo() -> str | None:
    """Where cargo is: on PATH, or where rustup puts it."""
    return packages.find("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))


def build() -> Path:
    """Build the program in the cache, or take it as it was built before; returns it."""
    cargo = find_cargo()
    if cargo is None:
        raise UnavailableError(
            f"{PURPOSE} cannot be built", why="there is no cargo here", remedy="install a current stable Rust"
        )
    packages.install({"protoc": "protobuf-compiler"}, purpose=PURPOSE)  # which the crate's build script runs
    # Cargo's lock file, and all that it makes, stay out of the checkout; by the files' times it tells what has changed.
    folder = default_cache() / "fortanix-client"
    shutil.copytree(SOURCE / "src", folder / "src", dirs_exist_ok=True)
    shutil.copy2(SOURCE / "Cargo.toml", folder)
    with timed(f"built {PURPOSE}"):
        command = [cargo, "build", "--target-dir", str(folder / "target"), "--quiet"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfcomError(
            f"building {PURPOSE} failed",
            why="\n".join(["cargo's last lines are:", *done.stderr.splitlines()[-BUILD_LOG_LINES:]]),
            remedy=f"run cargo build by hand in {folder}",
        )
    return folder / "target" / "debug" / "fortanix-client"


def quote_once(program: Path, socket: Path, *, enclave: SimulatedEnclave) -> FortanixQuote:
    """Run the program once: key ids, init, size, quote, without any retry.

    It writes what a report needs, reads report and nonce, and writes the quote.

    Raises:
        ConfcomError: the crate reported an error, panicked, or waited too long; or the quote is over another report.
    """
    report_data, nonce = secrets.token_bytes(REPORT_DATA_SIZE), secrets.token_bytes(NONCE_SIZE)
    report = told = ""
    with subprocess.Popen(
        [program, socket],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RUST_BACKTRACE": "0"},
    ) as process:
        guard = threading.Timer(RUN_SECONDS, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            first = _members(process.stdout.readline())
            if first:
                report = enclave.create_report(TargetInfo.parse(first["target_info"]), report_data).encode().hex()
                told = f"{report} {nonce.hex()}\n"
            out, complaint = process.communicate(told)
        finally:
            guard.cancel()
            process.kill()
    last = _members(out)
    if process.returncode or not last:
        raise ConfcomError(
            f"{PURPOSE} got no quote",
            why=complaint.strip() or f"it ended with {process.returncode}",
            remedy="compare with the log of what it asked",
        )
    if last["quote"][REPORT_BODY] != bytes.fromhex(report)[:REPORT_BODY_SIZE]:
        raise ConfcomError(f"{PURPOSE} got a quote over another report than it sent to {socket}")
    return FortanixQuote(report_data=report_data, nonce=nonce, **first, **last)


def _members(line: str) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in json.loads(line or "{}").items()}
