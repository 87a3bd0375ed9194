"""One client: its socket, its session, and where it is between its request and its answer."""

from __future__ import annotations

import socket
from enum import Enum, auto
from typing import Final, Protocol

from confcom.aesm.framing import HEADER_SIZE, MAX_REQUEST_SIZE
from confcom.aesm.messages import Request, Response
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived, ServerSession
from confcom.quote_helper.peers import Peer
from confcom.quote_helper.service import Ticket

RECEIVE_BYTES: Final = HEADER_SIZE + MAX_REQUEST_SIZE
"""The largest request arrives by one call, and so does what a client sent needlessly behind a small one: what is left
unread when a unix socket is closed reaches the client as ECONNRESET behind its answer."""


_NOTHING: Final = memoryview(b"")


class Stage(Enum):
    """What a connection waits for."""

    RECEIVING = auto()
    """The client's request."""
    ANSWERING = auto()
    """Its turn, or the provider."""
    SENDING = auto()
    """The client to read its answer."""


class Owner(Protocol):
    """Whoever runs the connection."""

    def send(self, connection: Connection, response: Response) -> None:
        """Answer it."""


class Connection:
    """The state of one connection; the server does everything that touches others.

    Its socket stays in blocking mode, and each call says MSG_DONTWAIT: that saves a system call for each connection.
    """

    __slots__ = (
        "_owner",
        "_session",
        "_unsent",
        "peer",
        "request",
        "response",
        "since",
        "sock",
        "stage",
        "ticket",
        "watched",
    )

    def __init__(self, owner: Owner, sock: socket.socket, peer: Peer) -> None:
        self._owner = owner
        self.sock = sock
        self.peer = peer
        self.stage = Stage.RECEIVING
        self.request: Request
        self.response: Response
        self.since = 0.0
        """When the request was complete."""
        self.ticket: Ticket | None = None
        """While its request waits for the provider."""
        self.watched = False
        """Whether it had to wait for anything, and so is known to the server's epoll."""
        self._session = ServerSession()
        self._unsent = _NOTHING

    @property
    def started(self) -> bool:
        """Whether the client has sent anything."""
        return self._session.started

    def receive(self) -> RequestReceived | ProtocolViolation | PeerClosed | None:
        """Take what has arrived, if anything has; None if more is needed.

        Raises:
            OSError: BlockingIOError if nothing has arrived; else the connection is dead.
        """
        data = self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        return self._session.receive(data) if data else self._session.receive_eof()

    def send(self, response: Response) -> bool:
        """Answer, by one call; whether the kernel took it whole.

        Raises:
            OSError: the connection is dead.
        """
        self.response = response
        self._unsent = memoryview(self._session.respond(response))
        return self.send_rest()

    def send_rest(self) -> bool:
        """Send what the kernel did not take yet; whether it is all gone.

        Raises:
            OSError: the connection is dead.
        """
        try:
            sent = self.sock.send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if sent == len(self._unsent):
            return True
        self._unsent = self._unsent[sent:]
        return False

    def deliver(self, response: Response) -> None:
        """The service has the answer."""
        self.ticket = None
        self._owner.send(self, response)
