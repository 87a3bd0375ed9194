"""Waits for states that Kubernetes reaches only eventually, and for the end of a process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from confcom.errors import ConfcomError, UnavailableError

POLL_SECONDS = 0.25

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, seconds: float = 60.0) -> T:
    """Repeat `condition` until it returns a true value; a `ConfcomError` is an answer that may change."""
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            answer = condition()
        except ConfcomError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:
            raise UnavailableError(f"{what}: not within {seconds:.0f} s", why=f"the last answer was {last}")
        time.sleep(POLL_SECONDS)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Send SIGTERM to a process if it still runs; after this many seconds, send SIGKILL."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
