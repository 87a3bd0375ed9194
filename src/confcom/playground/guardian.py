"""Ends what a node without namespaces leaves behind, however the node ended.

Namespaces die with their first process; plain processes do not. The guardian is a process of its own that waits until
the node closes a pipe, as the kernel does for it even after SIGKILL, and then kills every process that carries the
node's mark in its environment, and so also those that left their process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

ROUNDS = 20
"""Sweeps at most: a process that forks while it is looked for is found in the next one."""
PAUSE_SECONDS = 0.05
"""Between two sweeps."""


def marked(mark: bytes) -> list[int]:
    """Ids of processes with a variable that starts with the mark, this process excepted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(variable.startswith(mark) for variable in (entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
    return found


def sweep(mark: str) -> None:
    """Kill until nothing marked is left.

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


def main(mark: str) -> None:
    """Wait for the end of standard input, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    sweep(mark)


if __name__ == "__main__":
    main(sys.argv[1])
