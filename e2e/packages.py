"""Programs that come from the Linux distribution, installed when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from confcom.errors import UnavailableError
from e2e.progress import say, timed

LOCK_SECONDS = 600
"""For another apt or dpkg to end, such as a first boot's or an unattended upgrade, which takes some minutes."""
LOOK_SECONDS = 2.0
"""Between attempts to get the lock of apt's lists, for which apt itself does not wait."""
_WAITS, _LOCKED = "Waiting for cache lock:", "Could not get lock"
"""How apt begins the line in which it says that it waits, and the one in which it gives up."""


def install(
    programs: Mapping[str, str],
    *,
    purpose: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Install the packages of the programs that are missing; another apt or dpkg at work is waited for.

    A program is a name or a path; its package is as Debian and Ubuntu call it.
    """
    packages = sorted({package for program, package in programs.items() if not find(program)})
    if not packages:
        return
    command = ["install", "--yes", "--no-install-recommends", *packages]
    by_hand = f"install by hand: {' '.join(packages)} (names of Debian's packages)"
    if os.geteuid() or not shutil.which("apt-get"):
        raise UnavailableError(
            f"{purpose} needs programs that are not here",
            why="only root on a system with apt-get can have them installed",
            remedy=by_hand,
        )
    with timed(f"installed {', '.join(packages)}"):
        _apt_get(["update"], clock, sleep)  # the lists that are there may do, so only the installation counts
        code, said = _apt_get(command, clock, sleep)
        if code:
            raise UnavailableError(
                f"{purpose} needs {', '.join(packages)}",
                why=f"apt-get {' '.join(command)} failed: {said.strip()[-500:]}",
                remedy=by_hand,
            )


def _apt_get(arguments: Sequence[str], clock: Callable[[], float], sleep: Callable[[float], None]) -> tuple[int, str]:
    """Run it, and again while another program has a lock that it does not wait for; gives its code and its words."""
    command = ["apt-get", f"--option=DPkg::Lock::Timeout={LOCK_SECONDS}", *arguments]
    deadline, waiting = clock() + LOCK_SECONDS, False
    while True:
        lines = []
        with subprocess.Popen(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if not waiting and (_WAITS in line or _LOCKED in line):
                    waiting = True
                    say(f"another apt or dpkg is at work, and is waited for up to {LOCK_SECONDS} s: {line.strip()}")
        code, said = process.returncode, "".join(lines)
        if not code or _LOCKED not in said or clock() >= deadline:
            return code, said
        sleep(LOOK_SECONDS)


def find(program: str) -> str | None:
    """Where a program is, also in the folders of administrators that a plain user's PATH leaves out."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
