"""What a person who waits for the cluster reads."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator


def say(line: str) -> None:
    sys.stderr.write(f"e2e: {line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took, if it succeeds."""
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.1f} s")
