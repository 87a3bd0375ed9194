"""Clients as they should not be, each kind a process of its own, all of them one peer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import MappingProxyType

from bench.other_user import Work, stopped
from confcom.sgx.report import REPORT_SIZE
from testkit.replay import wire
from testkit.replay.clients import KEY

UID = 65_533
"""A peer of their own, no user that a distribution has."""
NICE = 10
"""They leave the CPU to the well-behaved: it is the helper's fairness that is tried, not the kernel's."""
SILENT = 4_500
"""More than the helper's 4,096 places: it must shed."""
HEADERS = 200
UNREAD = 64
FLOOD_AT_ONCE = 64
PAUSE_SECONDS = 0.02
"""Between rounds of those that do not flood."""
HELD_SECONDS = 5.0
"""For which an answer is left unread."""
CONNECT_SECONDS = 5.0

QUOTE_OF_NOTHING = wire.frame(
    wire.data(17, wire.data(1, bytes(REPORT_SIZE)) + wire.data(2, KEY) + wire.number(4, 65_536))
)
"""GetQuoteEx with a report that no enclave made, and the largest buffer."""
INIT = wire.frame(wire.data(15, wire.data(1, KEY) + wire.number(3, 1) + wire.number(4, 32)))
LIES = (
    (0).to_bytes(4, "little"),
    (65_537).to_bytes(4, "little") + b"x" * 100,
    (0xFFFF_FFFF).to_bytes(4, "little") + b"x" * 4096,
    (100).to_bytes(4, "little") + b"x" * 50,
    (100).to_bytes(4, "little") + b"\xff" * 100,
    wire.frame(wire.data(99, b"unknown")),
    INIT[:4] + INIT[5:],
)
"""Lengths of 0, one too many and 4 GiB; less than was announced; no protobuf; an unknown call; a byte missing."""


class Crowd:
    """Open connections of one misbehaving kind, and how many there were."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.held: list[tuple[socket.socket, float]] = []
        self.made = 0
        self.refused = 0

    def connect(self, *pieces: bytes) -> socket.socket | None:
        """Connect and send; None if the helper had closed, or did not take it."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(self._path)
            self.made += 1
            for piece in pieces:
                sock.sendall(piece)
        except OSError:
            self.refused += 1
            sock.close()
            return None
        return sock

    def hold(self, sock: socket.socket | None) -> None:
        """Keep it open, and read nothing."""
        if sock is not None:
            sock.settimeout(None)  # else even a call with MSG_DONTWAIT waits
            self.held.append((sock, time.monotonic()))

    def let_go(self, *, over: Callable[[socket.socket, float], bool]) -> None:
        """Close those of which this is true, given how long they were held."""
        now = time.monotonic()
        kept = []
        for sock, since in self.held:
            if over(sock, now - since):
                sock.close()
            else:
                kept.append((sock, since))
        self.held = kept


def _is_closed(sock: socket.socket, _: float) -> bool:
    try:
        sock.recv(65_536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _silent(crowd: Crowd) -> None:
    """Thousands that never send, and come again when they are closed."""
    crowd.let_go(over=_is_closed)
    for _ in range(min(SILENT - len(crowd.held), 200)):
        crowd.hold(crowd.connect())


def _header_only(crowd: Crowd) -> None:
    """What blocks Intel's aesmd for everybody."""
    crowd.let_go(over=_is_closed)
    for _ in range(HEADERS - len(crowd.held)):
        crowd.hold(crowd.connect(INIT[:4]))


def _liars(crowd: Crowd) -> None:
    for lie in LIES:
        sock = crowd.connect(lie)
        if sock is not None:
            sock.close()


def _half_closers(crowd: Crowd) -> None:
    """One half closes before its request is complete, the other half after."""
    for piece in (INIT[:20], INIT):
        sock = crowd.connect(piece)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
                sock.recv(65_536)
            sock.close()


def _dying(crowd: Crowd) -> None:
    """Killed in the middle of a request, and while it waits for the answer."""
    for piece in (INIT[:20], QUOTE_OF_NOTHING):
        child = os.fork()
        if not child:
            crowd.connect(piece)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        crowd.made += 1


def _never_reading(crowd: Crowd) -> None:
    crowd.let_go(over=lambda _, seconds: seconds > HELD_SECONDS)
    for _ in range(UNREAD - len(crowd.held)):
        crowd.hold(crowd.connect(QUOTE_OF_NOTHING))


def _flooding(crowd: Crowd) -> None:
    """As many requests at once as one program can, of the most expensive kind it can make without an enclave."""
    socks = [crowd.connect(QUOTE_OF_NOTHING) for _ in range(FLOOD_AT_ONCE)]
    for sock in socks:
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.recv(65_536)
            sock.close()


def _knocking(crowd: Crowd) -> None:
    """Connect and go, as port scanners and some probes do."""
    sock = crowd.connect()
    if sock is not None:
        sock.close()


KINDS: Mapping[str, tuple[Callable[[Crowd], None], float]] = MappingProxyType(
    {
        "send nothing": (_silent, PAUSE_SECONDS),
        "send only a header": (_header_only, PAUSE_SECONDS),
        "lie about lengths": (_liars, PAUSE_SECONDS),
        "half-close": (_half_closers, PAUSE_SECONDS),
        "die in the middle": (_dying, PAUSE_SECONDS),
        "never read the answer": (_never_reading, PAUSE_SECONDS),
        "connect and go": (_knocking, PAUSE_SECONDS),
        "flood": (_flooding, 0.0),
    }
)
"""What each does in one round, and how long it pauses between rounds, in seconds."""


def work(kind: str, path: str) -> Work:
    """One kind's misbehaviour, again and again; its result is how often it connected, and was refused."""
    round_of, pause = KINDS[kind]

    def run(parent: Connection) -> dict[str, int]:
        crowd = Crowd(path)
        while not stopped(parent, pause):
            round_of(crowd)
        return {"connections": crowd.made, "refused": crowd.refused}

    return run
