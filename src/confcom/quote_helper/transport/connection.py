"""One client's connection: its socket, its session, its stage, and the account of its peer."""

from __future__ import annotations

import errno
import socket
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from confcom.aesm.messages import Request, Response
from confcom.aesm.session import ServerSession
from confcom.daemon.connected_socket import unread_bytes
from confcom.quote_helper.quoting.service import Ticket
from confcom.quote_helper.transport.peers import Peer

RECEIVE_BYTES: Final = 64 * 1024
"""One recv() call reads the largest request and also needless bytes after it: if the helper closes a unix socket with
unread bytes, the client gets ECONNRESET after its answer."""

ALL_READ_BYTES: Final = 1
"""SIOCOUTQ returns at most this when the client has read everything: the kernel subtracts the last byte only after it
has raised EPOLLOUT (sock_wfree). No buffer is that small."""


class Stage(Enum):
    """Stages of a connection; in each stage, the connection waits for a certain event."""

    RECEIVING = auto()  # waits for the client's request
    PAUSED = auto()  # waits for its peer to fall below the peer's limits
    ANSWERING = auto()  # waits for its turn, or for an answer of the provider
    UNREAD = auto()  # waits for the client to read the answer, whose memory the kernel charges to the helper
    ENDED = auto()  # waits for nothing


RECEIVING, PAUSED, ANSWERING, UNREAD, ENDED = Stage
"""Names for the stages: on Python 3.11 a look-up in an enum takes 0.4 µs, and a quote needs eight of them."""


@dataclass(slots=True, eq=False)
class Account:
    """Resources that the connections of one peer hold; only the class `Connections` changes an account."""

    peer: Hashable
    open: int = 0  # connections
    places: int = 0  # connections without an answer
    waiting: int = 0  # complete requests that are not answered
    unread: int = 0
    """Kernel memory in bytes for unread answers, and for the future answers to waiting requests."""
    pooled: int = 0  # the bytes of `unread` that come from the pool which peers share
    sheddable: dict[Connection, float] = field(default_factory=dict)  # start of each wait; oldest first


@dataclass(slots=True, eq=False, repr=False)
class Connection:
    """A client's connection; only the class `Connections` changes the connection's stage and resources.

    Since each call uses MSG_DONTWAIT, the socket can stay in blocking mode, which saves a system call.
    """

    sock: socket.SocketType
    peer: Peer
    account: Account = field(init=False)
    unread: int = 0  # bytes of kernel memory counted for its answer
    stage: Stage = RECEIVING
    complete: bool = False  # whether its request is complete
    request: Request = field(init=False)
    since: float = 0.0  # when the request was complete
    ticket: Ticket[Connection] | None = None  # set while its request waits for the provider
    watched: bool = False  # whether the epoll watches its socket
    session: ServerSession = field(init=False, default_factory=ServerSession)

    def receive(self) -> bytes:
        """Receive the bytes that have arrived; raise BlockingIOError if there are none."""
        return self.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)

    def send(self, response: Response) -> int:
        """Send the whole answer with one call, since the helper buffers nothing; return the answer's size."""
        answer = self.session.respond(response)
        if self.sock.send(answer, socket.MSG_DONTWAIT) < len(answer):
            raise OSError(errno.ENOBUFS, "an answer does not fit into a socket's buffer: raise net.core.wmem_default")
        return len(answer)

    def finish(self) -> None:
        del self.request, self.session

    def has_unread(self) -> bool:
        """Return whether the client has not yet read the answer; False once the client has closed its end."""
        return unread_bytes(self.sock) > ALL_READ_BYTES
