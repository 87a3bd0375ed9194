"""The minimal Go plugin, built once from its pinned modules; it stays outside the checkout.

The cluster's programs are cached in the same place, by the same rule.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import UnavailableError
from e2e import packages
from e2e.cluster.tools import default_cache

SOURCE = Path(__file__).resolve().parent.parent / "go_plugin"
FLAGS = ("-trimpath", "-ldflags", "-s -w")
"""Reproducible, and small, as such plugins are built for images."""
LOG_LINES = 10
"""How much of a failed build's output the error shows."""


@dataclass(frozen=True, slots=True)
class GoPlugin:
    """Where the program is, or will be.

    Args:
        go: the compiler's path.
        version: the compiler's.
        path: the program's, named by everything that decides about it.
    """

    go: str
    version: str
    path: Path

    @classmethod
    def find(cls, cache: Path | None = None) -> GoPlugin:
        """Whether it is there, `path` shows."""
        go = packages.find("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            raise _not_built("there is no Go here")
        version = _run([go, "env", "GOVERSION"]).strip()
        digest = hashlib.sha256(f"{version}\n{FLAGS}\n".encode())
        for path in sorted(SOURCE.iterdir()):
            digest.update(path.read_bytes())
        return cls(go, version, (cache or default_cache()) / f"device-plugin-{digest.hexdigest()[:16]}")

    def build(self, *, say: Callable[[str], None]) -> Path:
        """The program, built if it was not yet."""
        if not self.path.exists():
            cache = self.path.parent
            cache.mkdir(parents=True, exist_ok=True)
            say(f"building the Go plugin with {self.version} (once; it stays in {cache})")
            with tempfile.TemporaryDirectory(dir=cache, prefix="device-plugin-unfinished-") as scratch:
                made = Path(scratch) / "device-plugin"
                _run([self.go, "build", *FLAGS, "-o", str(made), "."])
                made.rename(self.path)  # whoever else built it meanwhile built the same
        return self.path


def _run(command: list[str]) -> str:
    environ = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=SOURCE, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _not_built("\n".join(done.stderr.strip().splitlines()[-LOG_LINES:]))
    return done.stdout


def _not_built(why: str) -> UnavailableError:
    return UnavailableError(
        "the Go plugin cannot be built", why=why, remedy="install Go (the version is in bench/go_plugin/go.mod)"
    )
