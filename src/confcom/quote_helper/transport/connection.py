"""One client: its socket, its session, and where it is between its request and its answer."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from enum import Enum, auto
from typing import Final, Protocol

from confcom.aesm.answers import MAX_QUOTE_BUFFER_SIZE
from confcom.aesm.framing import HEADER_SIZE, MAX_REQUEST_SIZE
from confcom.aesm.messages import GetQuoteExRequest, Request, Response
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived, ServerSession
from confcom.quote_helper.limits import CONNECTION_MEMORY
from confcom.quote_helper.quoting.service import Ticket
from confcom.quote_helper.transport.connection_table import Holding
from confcom.quote_helper.transport.peers import Peer

RECEIVE_BYTES: Final = HEADER_SIZE + MAX_REQUEST_SIZE
"""The largest request arrives by one call, and so does what a client sent needlessly behind a small one: what is left
unread when a unix socket is closed reaches the client as ECONNRESET behind its answer."""

_NOTHING: Final = memoryview(b"")
_ZERO: Final = bytes(4)
"""What SIOCOUTQ fills in: an int."""
_READ: Final = (_ZERO, (1).to_bytes(len(_ZERO), sys.byteorder))
"""What it says when all is read. The kernel subtracts the last byte only after it has raised EPOLLOUT (sock_wfree), and
no buffer is that small."""


def request_memory(request: Request, received: int) -> int:
    """How many bytes a complete request makes the helper hold until its answer is read, at most.

    Args:
        request: decides how long the answer may be.
        received: how many bytes were received for it.
    """
    quote = min(request.buf_size, MAX_QUOTE_BUFFER_SIZE) if isinstance(request, GetQuoteExRequest) else 0
    return CONNECTION_MEMORY + received + quote


def unread_memory(answer_size: int) -> int:
    """How many bytes an answer of this size, which the client does not read, makes the helper hold at most."""
    return CONNECTION_MEMORY + answer_size


class Stage(Enum):
    """What a connection waits for."""

    RECEIVING = auto()
    """The client's request."""
    PAUSED = auto()
    """Its peer to hold less."""
    ANSWERING = auto()
    """Its turn, or the provider."""
    SENDING = auto()
    """The kernel to take the rest of its answer."""
    UNREAD = auto()
    """The client to read its answer, which the kernel holds at the helper's expense."""
    ENDED = auto()
    """Nothing any more."""


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
        "answer_size",
        "answered_at",
        "charged",
        "complete",
        "holding",
        "in_time",
        "peer",
        "received",
        "request",
        "response",
        "since",
        "sock",
        "stage",
        "ticket",
        "waiting",
        "watched",
    )

    def __init__(self, owner: Owner, sock: socket.SocketType, peer: Peer) -> None:
        self._owner = owner
        self.sock = sock
        self.peer = peer
        self.holding: Holding[Connection]
        """What its peer holds."""
        self.charged = 0
        """Bytes that it adds to what all peers hold."""
        self.in_time = False
        """Whether its client has still time to read the answer, so that its bytes do not count for its peer."""
        self.waiting = False
        """Whether it adds a waiting request to what its peer holds."""
        self.stage = Stage.RECEIVING
        self.complete = False
        """Whether its request has arrived."""
        self.received = 0
        """How many bytes have been read from it."""
        self.request: Request
        self.response: Response
        self.since = 0.0
        """When the request was complete."""
        self.answer_size = 0
        """Bytes."""
        self.answered_at = 0.0
        """When the kernel had taken the whole answer."""
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

    @property
    def buffered_memory(self) -> int:
        """How many bytes its incomplete request takes: a bytearray that grows has up to an eighth to spare."""
        buffered = self._session.buffered
        return buffered + (buffered >> 3)

    def receive(self, most: int) -> RequestReceived | ProtocolViolation | PeerClosed | None:
        """Take what has arrived, if anything has; None if more is needed.

        Args:
            most: how many bytes to take, at least 1.

        Raises:
            OSError: BlockingIOError if nothing has arrived; else the connection is dead.
        """
        data = self.sock.recv(most, socket.MSG_DONTWAIT)
        self.received += len(data)
        return self._session.receive(data) if data else self._session.receive_eof()

    def send(self, response: Response) -> bool:
        """Answer, by one call; whether the kernel took it whole.

        Raises:
            OSError: the connection is dead.
        """
        self.response = response
        self._unsent = memoryview(self._session.respond(response))
        self.answer_size = len(self._unsent)
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

    def finish(self) -> None:
        """Release the messages, with what the kernel has not taken of them: nothing is received or sent any more."""
        self._unsent = _NOTHING
        del self.request, self.response, self._session

    def end_answer(self) -> None:
        """Tell the client that nothing follows, and that nothing more is read: what it still sends fails with EPIPE.

        Raises:
            OSError: the connection is dead.
        """
        self.sock.shutdown(socket.SHUT_RDWR)

    def has_unread(self) -> bool:
        """Say whether the kernel holds bytes that the client has not read (SIOCOUTQ, unix(7)).

        A client that has closed its end has none.
        """
        return fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, _ZERO) not in _READ

    def deliver(self, response: Response) -> None:
        """The service has the answer."""
        self.ticket = None
        self._owner.send(self, response)
