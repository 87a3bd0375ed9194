"""Clients that misbehave, each kind in a process of its own, all of them one peer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from bench.other_user import Work, stopped
from confcom.sgx.report import REPORT_SIZE
from testkit.replay import wire
from testkit.replay.clients import KEY

UID = 65_533
"""A user of no distribution."""
NICE = 10
"""They leave the CPU to the others: the helper's fairness is tried, not the kernel's."""
SILENT, HEADERS, AT_ONCE = 4_500, 200, 200
"""More connections than the helper's 4,096 places; some that send a header; and so many of them made in a round."""
FLOOD = 64
"""Requests at the same time."""
PAUSE_SECONDS = 0.02
"""Between the rounds of a kind, except the flood's."""
CONNECT_SECONDS = 5.0
SEND_NOTHING, SEND_HEADERS, FLOODING = "send nothing", "send only a header", "flood"

QUOTE = wire.frame(wire.data(17, wire.data(1, bytes(REPORT_SIZE)) + wire.data(2, KEY) + wire.number(4, 65_536)))
"""GetQuoteEx with a report of no enclave, and the largest buffer: the most expensive request without an enclave."""
HEADER = QUOTE[: wire.HEADER_SIZE]


class Crowd:
    """Connections of one kind."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: list[socket.socket] = []
        self.made = 0
        self.refused = 0

    def connect(self, sent: bytes) -> socket.socket | None:
        """Connect and send; None if the helper had closed, or did not accept in time."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(self._path)
            self.made += 1
            sock.sendall(sent)
        except OSError:
            self.refused += 1
            sock.close()
            return None
        return sock

    def hold(self, count: int, sent: bytes) -> None:
        """Hold so many connections on which this was sent; closed ones are replaced."""
        for closed in [each for each in self._held if _is_closed(each)]:
            self._held.remove(closed)
            closed.close()
        for _ in range(min(count - len(self._held), AT_ONCE)):
            sock = self.connect(sent)
            if sock is not None:
                sock.settimeout(None)  # else even a call with MSG_DONTWAIT waits
                self._held.append(sock)

    def flood(self) -> None:
        """Ask for as many quotes as one program can."""
        for sock in [self.connect(QUOTE) for _ in range(FLOOD)]:
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.recv(65_536)
                sock.close()


def _is_closed(sock: socket.socket) -> bool:
    try:
        sock.recv(65_536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


KINDS: Mapping[str, Callable[[Crowd], None]] = {
    SEND_NOTHING: lambda crowd: crowd.hold(SILENT, b""),
    SEND_HEADERS: lambda crowd: crowd.hold(HEADERS, HEADER),
    FLOODING: Crowd.flood,
}
"""One round of each."""


def work(kind: str, path: str) -> Work:
    """Misbehave again and again; says so after the first round, and the result counts connections."""

    def run(parent: Connection) -> dict[str, int]:
        crowd = Crowd(path)
        KINDS[kind](crowd)
        parent.send(kind)
        while not stopped(parent, 0.0 if kind == FLOODING else PAUSE_SECONDS):
            KINDS[kind](crowd)
        return {"connections": crowd.made, "refused": crowd.refused}

    return run
