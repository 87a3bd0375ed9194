"""Progress messages for a person who waits for the cluster."""

from __future__ import annotations

import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def say(line: str) -> None:
    sys.stderr.write(f"e2e: {line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def alone(lock: Path, waiting: str) -> Iterator[None]:
    """Hold a file's lock; while another process holds the lock, print what this process waits for."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {waiting}")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took, if the block succeeds."""
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.1f} s")
