"""The demo's guardian process: it ends the demo's processes and clears its folder if the demo is killed.

That happens after SIGKILL, or when memory runs out. The guardian waits until its pipe from the demo is closed, which
the kernel does however the demo ends. Every process of the demo has the demo's folder in its environment; the guardian
ends those that still run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from confcom.playground.runtime.guardian import marked, sweep, wait_for_end

MARK_VARIABLE = "CONFCOM_DEMO"
"""The variable in the processes' environment whose value is the demo's folder."""

TERMINATE_SECONDS = 5.0
"""The grace period between SIGTERM and SIGKILL; the demo gives its daemons the same."""

POLL_SECONDS = 0.05


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


def main(folder: Path, *, remove_folder: bool) -> None:
    """Wait for the end of standard input, then end the remaining processes with SIGTERM, then SIGKILL."""
    wait_for_end()
    mark = f"{MARK_VARIABLE}={folder}"
    deadline = time.monotonic() + TERMINATE_SECONDS
    for pid in marked(mark.encode()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    while marked(mark.encode()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    sweep(mark)
    clear(folder, remove_folder=remove_folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), remove_folder=sys.argv[2] == "remove")
