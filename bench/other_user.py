"""Work in a child process of another user, which is a separate peer for the quote helper."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from e2e.attacks.kinds import KINDS

END_SECONDS = 60.0
"""Seconds for a child to end after `stop`; Intel's client may wait 15 s for an answer."""

Work = Callable[[Connection], dict[str, Any]]
"""Function that works until something arrives on the connection (see `stopped`), and returns a result."""


def stopped(parent: Connection, seconds: float = 0.0) -> bool:
    """Wait for at most this many seconds; return whether the work has to end."""
    return parent.poll(seconds)


def attacking(kind: str, find: Callable[[], str], begins: float = 0.0, ends: float = math.inf) -> Work:
    """Attacks as in `e2e.attacks`; returns counts. `find` gives the path when the attack begins."""

    def run(parent: Connection) -> dict[str, Any]:
        if stopped(parent, max(0.0, begins - time.monotonic())):
            return {}
        return dataclasses.asdict(KINDS[kind](find(), lambda: time.monotonic() >= ends or stopped(parent)))

    return run


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    name: str
    connection: Connection

    def request_stop(self) -> None:
        """Ask the work to end; `finish` waits until it has ended."""
        with contextlib.suppress(OSError):
            self.connection.send("stop")

    def finish(self) -> dict[str, Any]:
        self.request_stop()
        with contextlib.suppress(EOFError, OSError):
            if self.connection.poll(END_SECONDS):
                result: dict[str, Any] = self.connection.recv()
                return result
        raise RuntimeError(f"{self.name} has died or says nothing for {END_SECONDS:g} s")


@contextlib.contextmanager
def running_as(uid: int, name: str, work: Work, *, core: int | None = None, nice: int = 0) -> Iterator[Child]:
    """Run the work as the user and group with this ID, on one core or all; kill it at the block's end.

    The child is forked, without exec: the other user may be unable to read Python's files.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def become() -> None:
        ours.close()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if core is not None:
            os.sched_setaffinity(0, {core})
        os.nice(nice)
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        theirs.send(work(theirs))

    process = context.Process(target=become, name=name, daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(name, ours)
    finally:
        process.kill()
        process.join()
        ours.close()
