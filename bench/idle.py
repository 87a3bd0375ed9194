"""Thousands of connections that are held open and never used."""

from __future__ import annotations

import functools
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from bench.other_user import Child, running_as, stopped

IDLE_UID = 65_531
"""A peer of its own, no user that a distribution has."""
UP_SECONDS = 60.0
"""For all of them to be made."""
POLL_SECONDS = 0.05


@contextmanager
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
            for descriptor, _ in epoll.poll(POLL_SECONDS):
                held.pop(descriptor).close()
                reopened += 1
            fill()
    return {"held": len(held), "reopened": reopened}
