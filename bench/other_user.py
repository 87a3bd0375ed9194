"""Work in a child process that is another user, and so another peer of the quote helper."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import resource
import select
import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from confcom.errors import UnavailableError

STOP = "stop"
"""What the parent sends when the work is to end."""
END_SECONDS = 60.0
"""For a child to end after that; Intel's client alone may wait 15 s for an answer."""
IDLE_UID = 65_531
"""Who holds the idle connections: a peer of its own, no user that a distribution has."""
UP_SECONDS = 60.0
"""For all idle connections to be made."""
IDLE_POLL_SECONDS = 0.05

Work = Callable[[Connection], dict[str, Any]]
"""Runs until something comes over the connection (`stopped`), may send messages before, and returns its result."""


def require_root(purpose: str) -> None:
    """Only root can start processes of other users."""
    if os.geteuid() != 0:
        raise UnavailableError(
            f"{purpose} needs peers of their own",
            why="a peer is a user ID here, and only root can start processes of other users",
            remedy="run it as root",
        )


def stopped(parent: Connection, seconds: float = 0.0) -> bool:
    """Whether the work is to end; waits for so long."""
    return parent.poll(seconds)


class Child:
    """Work that runs."""

    def __init__(self, process: multiprocessing.process.BaseProcess, connection: Connection) -> None:
        self._process = process
        self._connection = connection

    def receive(self, seconds: float) -> Any:  # noqa: ANN401 # what comes over a pipe
        """The next message.

        Raises:
            RuntimeError: none came, or the child has died.
        """
        try:
            if self._connection.poll(seconds):
                return self._connection.recv()
        except (EOFError, OSError):
            pass
        raise RuntimeError(f"{self._process.name} has died or says nothing for {seconds:g} s")

    def finish(self) -> dict[str, Any]:
        """End it and take its result."""
        self.request_stop()
        result: dict[str, Any] = self.receive(END_SECONDS)
        return result

    def request_stop(self) -> None:
        """Let it end; `finish` waits for it."""
        with contextlib.suppress(OSError):
            self._connection.send(STOP)


@contextlib.contextmanager
def running_as(uid: int, name: str, work: Work, *, core: int | None = None, nice: int = 0) -> Iterator[Child]:
    """Run it; what still runs at the end of the block is killed.

    It is forked, not started anew: another user may not be allowed to read this environment's files.

    Args:
        uid: who it is; the group is the same number.
        name: for errors.
        work: what it does.
        core: where it runs; None: wherever the kernel wants.
        nice: by how much it leaves the CPU to others.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_become,
        args=(uid, work, (ours, theirs)),
        kwargs={"core": core, "nice": nice},
        name=name,
        daemon=True,
    )
    process.start()
    theirs.close()
    try:
        yield Child(process, ours)
    finally:
        process.kill()
        process.join()
        ours.close()


def _become(uid: int, work: Work, ends: tuple[Connection, Connection], *, core: int | None, nice: int) -> None:
    parents, own = ends
    parents.close()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if core is not None:
        os.sched_setaffinity(0, {core})
    os.nice(nice)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    own.send(work(own))


@contextlib.contextmanager
def idle_connections(path: Path, count: int, *, core: int) -> Iterator[Child]:
    """Hold so many, as another user, and reopen those that are closed; they are all there when the block begins."""
    with running_as(IDLE_UID, "the idle peer", functools.partial(_hold, str(path), count), core=core) as child:
        child.receive(UP_SECONDS)
        yield child


def _hold(path: str, count: int, parent: Connection) -> dict[str, int]:
    held: dict[int, socket.socket] = {}
    reopened = 0
    with select.epoll() as epoll:

        def fill() -> None:
            while len(held) < count:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(path)
                held[sock.fileno()] = sock
                epoll.register(sock, select.EPOLLRDHUP)

        fill()
        parent.send(len(held))
        while not stopped(parent):
            for descriptor, _ in epoll.poll(IDLE_POLL_SECONDS):
                held.pop(descriptor).close()
                reopened += 1
            fill()
    return {"held": len(held), "reopened": reopened}
