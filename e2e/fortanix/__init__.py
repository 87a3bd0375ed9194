"""Fortanix' own AESM client, the real crate, in a small Rust program: build it, and get a quote with it.

The enclave's side of an attestation is here, in a simulated enclave; everything that AESM is asked is the crate's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from confcom.errors import ConfcomError, UnavailableError
from e2e import packages
from e2e.cluster.tools import default_cache
from e2e.progress import timed

SOURCE = Path(__file__).resolve().parent
PURPOSE = "Fortanix' client"

RUN_SECONDS = 120.0
"""After which a run is killed: the crate waits up to 30 s for each answer, and for one of them without a limit."""

BUILD_LOG_LINES = 30
"""How much of a failed build's output an error shows."""


def find_cargo() -> str | None:
    """Where cargo is: on PATH, or where rustup puts it."""
    return packages.find("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))


def build() -> Path:
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


def quote_once(program: Path, socket: Path, report_for: Callable[[bytes], bytes], nonce: bytes) -> dict[str, bytes]:
    """Run the program once: key ids, init, size, quote, without any retry; returns what it got, by name.

    It writes what a report needs, reads report and nonce, and writes the quote.

    Raises:
        ConfcomError: the crate reported an error, panicked, or waited too long.
    """
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [program, socket], text=True, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        guard = threading.Timer(RUN_SECONDS, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            first = _members(process.stdout.readline())
            told = f"{report_for(first['target_info']).hex()} {nonce.hex()}\n" if first else ""
            out, complaint = process.communicate(told)
        finally:
            guard.cancel()
            process.kill()
    last = _members(out)
    if process.returncode or not last:
        why = complaint.strip() or f"it ended with {process.returncode}"
        raise ConfcomError(f"{PURPOSE} got no quote", why=why, remedy="compare with the log of what it asked")
    return first | last


def _members(line: str) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in json.loads(line or "{}").items()}
