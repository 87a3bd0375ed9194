"""The guardian process: it ends what is left of a node or of a demo that could not end its processes itself.

The processes of a PID namespace end with its first process; plain processes do not. The guardian waits until its pipe
from the node or the demo is closed, which the kernel does even after SIGKILL. It then ends every process that has the
mark in its environment, including those that left their process group, and clears the demo's folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

ROUNDS = 20
"""Limit for the number of sweeps: the next sweep finds the child of a process that forked during this one."""
PAUSE_SECONDS = 0.05
"""Between two sweeps, and between two looks at processes that were sent SIGTERM."""
TERMINATE_SECONDS = 5.0
"""The grace period of a demo's processes between SIGTERM and SIGKILL; the demo gives its daemons the same."""


def marked(mark: bytes) -> list[int]:
    """Return the IDs of all processes except this one that have an environment variable starting with the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(variable.startswith(mark) for variable in (entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
    return found


def sweep(mark: str) -> None:
    """Kill marked processes until none is left, in at most ROUNDS sweeps.

    Args:
        mark: the beginning of `NAME=VALUE`.
    """
    for _ in range(ROUNDS):
        if not _signal(mark, signal.SIGKILL):
            return
        time.sleep(PAUSE_SECONDS)


def clear(folder: Path, *, remove_folder: bool) -> None:
    """Empty the demo's folder; with `remove_folder`, which is unset for a user's own folder, remove it too."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    if remove_folder:
        shutil.rmtree(folder, ignore_errors=True)


def main(mark: str, folder: str = "", remove: str = "") -> None:
    """Wait for the end of standard input, whatever signals come; then end the marked processes.

    Args:
        mark: the beginning of `NAME=VALUE`.
        folder: a demo's folder, which is emptied, after its processes had time to end by themselves.
        remove: `remove` if the folder is removed too.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    if folder:
        deadline = time.monotonic() + TERMINATE_SECONDS
        _signal(mark, signal.SIGTERM)
        while marked(mark.encode()) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
    sweep(mark)
    if folder:
        clear(Path(folder), remove_folder=remove == "remove")


def _signal(mark: str, number: signal.Signals) -> list[int]:
    pids = marked(mark.encode())
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return pids


if __name__ == "__main__":
    main(*sys.argv[1:])
