"""Programs of the Linux distribution, installed when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from confcom.errors import UnavailableError
from e2e.progress import timed

LOCK_SECONDS = 600
"""Seconds for another apt or dpkg to end; a first boot or an unattended upgrade takes some minutes."""


def install(programs: Mapping[str, str], *, purpose: str) -> None:
    """Install the packages of missing programs, after waiting for any other running apt or dpkg.

    A program is given by name or path; its package is given by its name in Debian and Ubuntu.
    """
    packages = sorted({package for program, package in programs.items() if not find(program)})
    if not packages:
        return
    why = "only root on a system with apt-get can have them installed"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with timed(f"installed {', '.join(packages)}"):
            _apt_get("update")  # existing package lists may suffice, so only the installation must succeed
            done = _apt_get("install", "--yes", "--no-install-recommends", *packages)
        if done.returncode == 0:
            return
        why = f"apt-get install failed: {done.stdout.strip()[-500:]}"
    raise UnavailableError(
        f"{purpose} needs programs that are not here",
        why=why,
        remedy=f"install by hand: {' '.join(packages)} (names of Debian's packages)",
    )


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", f"--option=DPkg::Lock::Timeout={LOCK_SECONDS}", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def find(program: str) -> str | None:
    """Path of a program, also in administrators' folders that are not in a plain user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
