"""Connections that an attacker holds."""

from __future__ import annotations

import array
import contextlib
import fcntl
import resource
import select
import socket
import termios
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SPARE_DESCRIPTORS = 512
"""For everything else, and for as many connections as are made between two looks."""
LOOK_SECONDS = 0.5
"""Between looks at what is held."""
RENEWED_SHARE = 0.02
"""Of the connections, the oldest: closed with each look when an attacker cannot hold more."""
GONE = select.POLLHUP | select.POLLRDHUP | select.POLLERR


def most_descriptors() -> int:
    """Raise the limit as far as this process may; returns how many connections it can hold."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most - SPARE_DESCRIPTORS


@dataclass(slots=True)
class Counts:
    """Connections of an attacker, and how many renderings of metrics differed from each other."""

    made: int = 0
    refused: int = 0
    most_held: int = 0
    renderings: int = 0


class Held:
    """Connections, the oldest first, of which so many are held as are worth it by poll's events."""

    def __init__(
        self, most: int, worth: Callable[[socket.socket, int], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._worth = worth
        self._clock = clock
        self._looked = clock()
        self._held: deque[socket.socket] = deque()
        self.counts = Counts()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, sock: socket.socket) -> None:
        """Hold one more; it is not closed before `look`."""
        self._held.append(sock)
        self.counts.most_held = max(self.counts.most_held, len(self._held))

    @property
    def full(self) -> bool:
        return len(self._held) >= self._most

    def look(self) -> None:
        """Now and then, close what is not worth holding, and some of the oldest if there is no room."""
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        poll = select.poll()
        for sock in self._held:
            poll.register(sock, select.POLLIN | select.POLLRDHUP)
        told = dict(poll.poll(0))
        kept: deque[socket.socket] = deque()
        for sock in self._held:
            if self._worth(sock, told.get(sock.fileno(), 0)):
                kept.append(sock)
            else:
                sock.close()
        self._held = kept
        if self.full:
            for _ in range(max(1, int(len(kept) * RENEWED_SHARE))):
                kept.popleft().close()

    def close(self) -> None:
        while self._held:
            self._held.popleft().close()


def connect(path: str, request: bytes, counts: Counts, sock: socket.socket | None = None) -> socket.socket | None:
    """Connect by a new socket or an unconnected one, and send; None if either failed."""
    made = socket.socket(socket.AF_UNIX) if sock is None else sock
    made.settimeout(1.0)  # a full backlog is told at once, and a full buffer after this
    try:
        made.connect(path)
        made.sendall(request)
    except OSError:
        made.close()
        counts.refused += 1
        return None
    counts.made += 1
    return made


def unread_bytes(sock: socket.socket) -> int:
    size = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(sock, termios.FIONREAD, size)
    return size[0]
