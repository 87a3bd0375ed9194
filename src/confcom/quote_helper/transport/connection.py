"""One client's connection: its socket, its session, and its stage between request and answer."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from confcom.aesm.messages import GetQuoteExRequest, Request, Response
from confcom.aesm.request_checks import MAX_QUOTE_BUFFER_SIZE
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived, ServerSession
from confcom.quote_helper.limits_and_deadlines import ANSWER_OVERHEAD, LARGEST_FRAME
from confcom.quote_helper.quoting.service import Ticket
from confcom.quote_helper.transport.peers import Peer

if TYPE_CHECKING:
    from confcom.quote_helper.transport.accounts import Account

RECEIVE_BYTES: Final = LARGEST_FRAME
"""One call takes the largest request, and also bytes that a client sent needlessly after a small one: bytes left unread
when a unix socket is closed give the client ECONNRESET after its answer."""

_NOTHING: Final = memoryview(b"")
_ZERO: Final = bytes(4)
"""The buffer for SIOCOUTQ: an int."""
_READ: Final = (_ZERO, (1).to_bytes(len(_ZERO), sys.byteorder))
"""What SIOCOUTQ returns when the client has read everything: 0, or 1, because the kernel subtracts the last byte only
after it has raised EPOLLOUT (sock_wfree). No buffer is that small, so 1 is unambiguous."""


def largest_answer(request: Request) -> int:
    """Return the bytes of the kernel that the answer to a request takes at most, until it is read."""
    quote = min(request.buf_size, MAX_QUOTE_BUFFER_SIZE) if isinstance(request, GetQuoteExRequest) else 0
    return quote + ANSWER_OVERHEAD


class Stage(Enum):
    """What a connection waits for."""

    RECEIVING = auto()
    """The client's request."""
    PAUSED = auto()
    """Its peer to fall below its limits."""
    ANSWERING = auto()
    """Its turn, or the provider."""
    SENDING = auto()
    """The client to read a part of the answer, so that the next one may be sent."""
    UNREAD = auto()
    """The client to read its answer, which the kernel charges to the helper's memory."""
    ENDED = auto()
    """Nothing: the connection is closed."""


@dataclass(slots=True, eq=False, repr=False)
class Connection:
    """The state of one connection; `Connections` does everything that affects other connections.

    Its socket stays in blocking mode, and each call uses MSG_DONTWAIT, which saves a system call per connection.
    """

    sock: socket.SocketType
    peer: Peer
    account: Account = field(init=False)
    memory: int = 0
    """Bytes of the helper that are counted for it."""
    unread: int = 0
    """Bytes of the kernel that are counted for it."""
    waiting: bool = False
    """Whether it counts as a waiting request of its peer."""
    answered: bool = False
    """Whether the kernel has its whole answer."""
    stage: Stage = Stage.RECEIVING
    complete: bool = False
    received: int = 0
    """Bytes."""
    request: Request = field(init=False)
    response: Response = field(init=False)
    since: float = 0.0
    """When the request was complete."""
    answered_at: float = 0.0
    """When the kernel had taken the whole answer."""
    ticket: Ticket[Connection] | None = None
    """Set while its request waits for the provider."""
    watched: bool = False
    """Whether it is registered in the server's epoll, because it had to wait."""
    _session: ServerSession = field(init=False, default_factory=ServerSession)
    _unsent: memoryview = _NOTHING
    _window: int = 0

    @property
    def buffered_memory(self) -> int:
        """Bytes that its incomplete request takes: a growing bytearray is overallocated by up to an eighth."""
        buffered = self._session.buffered
        return buffered + (buffered >> 3)

    def receive(self, limit: int) -> RequestReceived | ProtocolViolation | PeerClosed | None:
        """Receive what has arrived, at most `limit` bytes; return None if the request needs more.

        Raises:
            OSError: BlockingIOError if nothing has arrived; else the connection is broken.
        """
        data = self.sock.recv(limit, socket.MSG_DONTWAIT)
        self.received += len(data)
        return self._session.receive(data) if data else self._session.receive_eof()

    def encode(self, response: Response) -> int:
        """Set the answer; return its size in bytes."""
        self.response = response
        self._unsent = memoryview(self._session.respond(response))
        return len(self._unsent)

    def send(self, window: int) -> bool:
        """Send the first `window` bytes of the answer; `send_next` sends as many again."""
        self._window = window
        return self.send_next()

    def send_next(self) -> bool:
        """Send the next part of the answer by one call; return whether the kernel has taken all of it."""
        try:
            sent = self.sock.send(self._unsent[: self._window], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        self._unsent = self._unsent[sent:]
        return not self._unsent

    def finish(self) -> None:
        """Release the messages, including the part that was not sent: nothing more is received or sent."""
        self._unsent = _NOTHING
        del self.request, self.response, self._session

    def end_answer(self) -> None:
        """Shut down both directions: the client gets end of file, and EPIPE if it sends more.

        Raises:
            OSError: the connection is broken.
        """
        self.sock.shutdown(socket.SHUT_RDWR)

    def has_unread(self) -> bool:
        """Return whether the kernel holds bytes that the client has not read (SIOCOUTQ, unix(7)).

        There are none once the client has closed its end.
        """
        return fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, _ZERO) not in _READ
