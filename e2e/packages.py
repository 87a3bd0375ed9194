"""Programs that come from the Linux distribution, installed when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from confcom.errors import UnavailableError
from e2e.progress import timed


def install(programs: Mapping[str, str], *, purpose: str) -> None:
    """Install the packages of the programs that are missing.

    Args:
        programs: the package (as Debian and Ubuntu call it) of each program; a program is a name or a path.
        purpose: who needs them, for the error.

    Raises:
        UnavailableError: something is missing and cannot be installed; names the packages.
    """
    packages = sorted({package for program, package in programs.items() if not find(program)})
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    by_hand = f"install by hand: {' '.join(packages)} (names of Debian's packages)"
    if os.geteuid() or not shutil.which("apt-get"):
        raise UnavailableError(
            f"{purpose} needs programs that are not here",
            why="only root on a system with apt-get can have them installed",
            remedy=by_hand,
        )
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with timed(f"installed {', '.join(packages)}"):
        for step in (["apt-get", "update"], command):
            done = subprocess.run(step, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(
                f"{purpose} needs {', '.join(packages)}",
                why=f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}",
                remedy=by_hand,
            )


def find(program: str) -> str | None:
    """Where a program is, also in the folders of administrators that a plain user's PATH leaves out."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
