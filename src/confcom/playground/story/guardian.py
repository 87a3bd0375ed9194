"""Ends a demo's processes and removes its folder if the demo itself cannot: after SIGKILL, or out of memory.

A process of its own that waits until the demo closes a pipe, as the kernel does for it however it ends. Everything
that the demo starts carries the demo's folder in its environment; whatever still does is then ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from confcom.playground.guardian import marked, sweep

MARK_VARIABLE = "CONFCOM_DEMO"
"""Holds the demo's folder."""

TERMINATE_SECONDS = 5.0
"""What a daemon gets between SIGTERM and SIGKILL, as from the demo itself."""

POLL_SECONDS = 0.05


def clear(folder: Path, *, remove_folder: bool) -> None:
    """Empty the demo's folder, and remove it unless it is the user's own."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    if remove_folder:
        shutil.rmtree(folder, ignore_errors=True)


def main(folder: Path, *, remove_folder: bool) -> None:
    """Wait for the end of standard input, then end what is left: orderly, then by force."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
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
