"""The guardian process: kills a node's remaining container processes in the mode without namespaces.

The processes of a PID namespace end with its first process; plain processes do not. The guardian waits until its pipe
from the node is closed, which the kernel does even after SIGKILL. It then kills every process that has the node's mark
in its environment, including those that left their process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

ROUNDS = 20
"""Limit for the number of sweeps: the next sweep finds the child of a process that forked during this one."""
PAUSE_SECONDS = 0.05
"""Between two sweeps."""


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
        pids = marked(mark.encode())
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)


def wait_for_end() -> None:
    """Wait for the end of standard input, whatever signals come."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    wait_for_end()
    sweep(sys.argv[1])
