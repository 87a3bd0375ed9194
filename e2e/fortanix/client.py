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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError, UnavailableError
from confcom.sgx.quote import QUOTE_HEADER_SIZE
from confcom.sgx.report import NONCE_SIZE, REPORT_BODY_SIZE, REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from e2e import packages
from e2e.cluster.tools import default_cache
from e2e.progress import timed

SOURCE = Path(__file__).resolve().parent
PROGRAM = "fortanix-client"
PURPOSE = "Fortanix' client"

RUN_SECONDS = 120.0
"""After which a run is killed: the crate waits up to 30 s for each answer, and for one of them without a limit."""

REPORT_BODY = slice(QUOTE_HEADER_SIZE, QUOTE_HEADER_SIZE + REPORT_BODY_SIZE)

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


def build(cache: Path | None = None) -> Path:
    """Build the program, or take it as it was built before.

    Sources are copied to the cache and built there: the lock file that cargo writes, and all it makes, stay out of the
    checkout.

    Args:
        cache: the folder of built programs.

    Returns:
        The program.

    Raises:
        UnavailableError: no cargo, or no protoc (which the crate's build script runs) and it cannot be installed.
        ConfcomError: the build failed.
    """
    cargo = find_cargo()
    if cargo is None:
        raise UnavailableError(
            f"{PURPOSE} cannot be built", why="there is no cargo here", remedy="install a current stable Rust"
        )
    packages.install({"protoc": "protobuf-compiler"}, purpose=PURPOSE)
    folder = (cache or default_cache()) / "fortanix"
    (folder / "src").mkdir(parents=True, exist_ok=True)
    for name in ("Cargo.toml", "src/main.rs"):
        shutil.copy2(SOURCE / name, folder / name)  # with its time, by which cargo tells what has changed
    command = [cargo, "build", "--quiet", "--target-dir", str(folder / "target")]
    with timed(f"built {PURPOSE}"):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfcomError(
            f"building {PURPOSE} failed",
            why="\n".join(["cargo's last lines are:", *done.stderr.splitlines()[-BUILD_LOG_LINES:]]),
            remedy=f"build it by hand in {folder}",
        )
    return folder / "target" / "debug" / PROGRAM


def quote_once(
    program: Path,
    socket: Path,
    *,
    enclave: SimulatedEnclave,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> FortanixQuote:
    """Run the program once: key ids, init, size, quote, without any retry.

    Args:
        program: from `build`.
        socket: the AESM service's.
        enclave: whose report is quoted.
        random_bytes: for report data and nonce.

    Raises:
        ConfcomError: the crate reported an error, panicked, or waited too long; or the quote is over another report.
    """
    report_data, nonce = random_bytes(REPORT_DATA_SIZE), random_bytes(NONCE_SIZE)
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
            report, given = b"", ""
            if first:
                report = enclave.create_report(TargetInfo.parse(first["target_info"]), report_data).encode()
                given = f"{report.hex()} {nonce.hex()}\n"
            out, complaint = process.communicate(given)
        finally:
            guard.cancel()
            process.kill()
    second = _members(out)
    if process.returncode or not second:
        raise ConfcomError(
            f"{PURPOSE} got no quote from {socket}",
            why=complaint.strip() or f"it ended with {process.returncode}",
            remedy="compare with the quote helper's log",
        )
    if second["quote"][REPORT_BODY] != report[:REPORT_BODY_SIZE]:
        raise ConfcomError(f"{PURPOSE} got a quote over another report than it sent to {socket}")
    return FortanixQuote(report_data=report_data, nonce=nonce, **first, **second)


def _members(line: str) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in json.loads(line or "{}").items()}
