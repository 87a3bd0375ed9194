"""The guardian: a process that ends the demo's other processes and removes its folder, however the demo ends.

The guardian waits until its pipe from the demo is closed, which the kernel does even after a SIGKILL. Then the guardian
ends every process with the demo's mark in the environment, even outside of the original process group.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK_VARIABLE = "CONFCOM_DEMO"
"""The environment variable that marks the demo's processes; its value is the demo's folder."""
TERMINATE_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL. The daemons need a fraction of a second to end."""
KILL_SECONDS = 1.0
"""Time limit of all SIGKILL rounds. If a process forks during a round, a later round finds the child."""
PAUSE_SECONDS = 0.02


def marked(mark: str) -> Iterator[int]:
    """Yield the IDs of all processes whose environment has the variable `mark` (NAME=VALUE)."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def end_marked(mark: str) -> None:
    """Send SIGTERM to each marked process, SIGKILL after TERMINATE_SECONDS, and wait until all have ended."""
    deadline, signalled = time.monotonic() + TERMINATE_SECONDS, set[int]()
    while (pids := set(marked(mark))) and time.monotonic() < deadline + KILL_SECONDS:
        late = time.monotonic() > deadline
        for pid in pids if late else pids - signalled:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        signalled |= pids
        time.sleep(PAUSE_SECONDS)


def main(folder: str) -> None:
    """Wait for the end of standard input, end the processes, and remove the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    end_marked(f"{MARK_VARIABLE}={folder}")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
