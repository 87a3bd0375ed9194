"""A small Rust program of ours that uses a crate of others: built once, then run for single attestations.

The enclave's side of an attestation is here, in a simulated enclave.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confcom.errors import ConfcomError, UnavailableError
from e2e import packages
from e2e.cluster.tools import default_cache
from e2e.progress import timed

SHARED = Path(__file__).resolve().parent
SHARED_SOURCE = "hex_lines.rs"

RUN_SECONDS = 120.0
"""After which a run is killed: Fortanix' AESM client waits up to 30 s for each answer, and for one of them without a
limit."""

BUILD_LOG_LINES = 30
"""How much of a failed build's output an error shows."""


def find_cargo() -> str | None:
    """Where cargo is: on PATH, or where rustup puts it."""
    return packages.find("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))


@dataclass(frozen=True, slots=True)
class RustClient:
    """A Rust program with the folder of its Cargo.toml, and Debian's packages of the programs that its build runs."""

    source: Path
    program: str
    purpose: str
    needed: Mapping[str, str] = field(default_factory=dict)

    def fetch(self, cache: Path | None = None) -> None:
        """Download the sources of all that Cargo.toml names, also of what is not built here."""
        self._run(self._require_cargo(), "fetch", folder=self._copied_to(cache))

    def build(self, cache: Path | None = None) -> Path:
        """Build the program, or take it as it was built before; returns it."""
        cargo = self._require_cargo()
        packages.install(self.needed, purpose=self.purpose)
        folder = self._copied_to(cache)
        with timed(f"built {self.purpose}"):
            self._run(cargo, "build", "--target-dir", str(folder / "target"), folder=folder)
        return folder / "target" / "debug" / self.program

    def _require_cargo(self) -> str:
        cargo = find_cargo()
        if cargo is None:
            raise UnavailableError(
                f"{self.purpose} cannot be built", why="there is no cargo here", remedy="install a current stable Rust"
            )
        return cargo

    def _run(self, cargo: str, *arguments: str, folder: Path) -> None:
        done = subprocess.run([cargo, *arguments, "--quiet"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfcomError(
                f"building {self.purpose} failed",
                why="\n".join(["cargo's last lines are:", *done.stderr.splitlines()[-BUILD_LOG_LINES:]]),
                remedy=f"run cargo {arguments[0]} by hand in {folder}",
            )

    def _copied_to(self, cache: Path | None) -> Path:
        """Copy the sources to the cache: cargo's lock file, and all that it makes, stay out of the checkout."""
        cache = (cache or default_cache()) / "rust-clients"
        folder = cache / self.source.name
        (folder / "src").mkdir(parents=True, exist_ok=True)
        (cache / SHARED.name).mkdir(exist_ok=True)
        # With their times, by which cargo tells what has changed.
        for name in ("Cargo.toml", "src/main.rs"):
            shutil.copy2(self.source / name, folder / name)
        shutil.copy2(SHARED / SHARED_SOURCE, cache / SHARED.name / SHARED_SOURCE)
        return folder

    def attest(
        self,
        command: Sequence[str | Path],
        given: Callable[[Mapping[str, bytes]], Sequence[bytes]],
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Run the program: it writes what a report needs, reads what it is given, and writes the quote.

        Returns:
            What it wrote first and last.

        Raises:
            ConfcomError: it ended with an error or without a quote, or waited too long.
        """
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environ, "RUST_BACKTRACE": "0"},
        ) as process:
            guard = threading.Timer(RUN_SECONDS, process.kill)
            guard.start()
            try:
                assert process.stdout is not None
                first = _members(process.stdout.readline())
                told = " ".join(part.hex() for part in given(first)) + "\n" if first else ""
                out, complaint = process.communicate(told)
            finally:
                guard.cancel()
                process.kill()
        last = _members(out)
        if process.returncode or not last:
            raise ConfcomError(
                f"{self.purpose} got no quote",
                why=complaint.strip() or f"it ended with {process.returncode}",
                remedy="compare with the log of what it asked",
            )
        return first, last


def _members(line: str) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in json.loads(line or "{}").items()}
