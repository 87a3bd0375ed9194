"""The AESM sockets: one request per connection, a deadline for each of its stages, and answers in one write.

Connections are plain sockets in an epoll of the server's own, which the event loop watches as one descriptor: most of
them are accepted, read, answered and closed without ever waiting (docs/adr/0005-plain-sockets.md).
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Callable

from confcom.aesm.messages import Response
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived
from confcom.quote_helper.acceptor import Acceptor
from confcom.quote_helper.connection import Connection, Stage
from confcom.quote_helper.connections import ConnectionTable
from confcom.quote_helper.deadlines import Deadlines
from confcom.quote_helper.limits import EVENTS_PER_TURN, HelperLimits
from confcom.quote_helper.observer import Observer
from confcom.quote_helper.peers import PeerIdentifier
from confcom.quote_helper.service import QuoteService, Ticket

_logger = logging.getLogger(__name__)


class AesmServer:
    """Serves listening sockets, which it does not own, and knows no path. All of them share one table of connections.

    Made and closed in the running event loop.

    Args:
        service: makes the answers.
        observer: is told of everything.
        identify: names the peer of each connection.
        limits: deadlines and caps.
        clock: monotonic seconds, finer than uvloop's own, which counts milliseconds.
    """

    def __init__(
        self,
        *,
        service: QuoteService,
        observer: Observer,
        identify: PeerIdentifier,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._service = service
        self._observer = observer
        self._identify = identify
        self._limits = limits
        self._clock = clock
        self._connections: ConnectionTable[Connection] = ConnectionTable()
        self._watched: dict[int, Connection] = {}
        self._silent = Deadlines(limits.first_byte_seconds, clock, self._first_byte_is_due)
        self._partial = Deadlines(
            max(0.0, limits.whole_request_seconds - limits.first_byte_seconds), clock, self._request_is_due
        )
        self._unread = Deadlines(limits.write_seconds, clock, self._answer_is_due)
        self._changed = asyncio.Event()
        self._epoll = select.epoll()
        self._acceptor = Acceptor(
            epoll=self._epoll,
            room=self._room,
            shed=self._shed,
            admit=self._admit,
            paused=observer.accepting_paused,
            limits=limits,
            clock=clock,
        )
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._take_turn)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def add_listener(self, listener: socket.socket) -> None:
        """Serve a listening socket too; it stays the caller's to close, after `remove_listener`."""
        self._acceptor.add(listener)

    def remove_listener(self, listener: socket.socket) -> None:
        """Serve it no more: who had connected by now is still served, who comes later is refused by the kernel."""
        self._acceptor.remove(listener)

    async def stop_accepting(self, after_seconds: float) -> None:
        """Go on for a while, for those who had found the path before it went; then serve no listener any more."""
        await asyncio.sleep(after_seconds)
        for listener in self._acceptor.listeners:
            self.remove_listener(listener)

    async def drain(self) -> None:
        """Wait until what has arrived is answered; requests that are not complete have a moment to become so."""
        await self._until(lambda: not self._connections.receiving, self._limits.receive_drain_seconds)
        for connection in self._connections.all_receiving():
            self._drop(connection, "stopping")
        if not await self._until(lambda: not self.connections, self._limits.drain_seconds):
            _logger.warning("requests were left unanswered", extra={"connections": self.connections})

    def close(self) -> None:
        """Close every connection at once; listeners are left alone, and served no more."""
        for connection in self._connections:
            self._drop(connection, "stopping")
        # After the connections, each of whose ends may reopen its reserve.
        self._acceptor.close()
        for deadlines in (self._silent, self._partial, self._unread):
            deadlines.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def send(self, connection: Connection, response: Response) -> None:
        """Answer a connection, and close it when the answer is gone."""
        connection.stage = Stage.SENDING
        try:
            sent = connection.send(response)
        except OSError:
            self._drop(connection, "gone")
        except Exception:
            _logger.exception("an answer could not be encoded")
            self._drop(connection, "failed")
        else:
            if sent:
                self._answered(connection)
            else:
                self._unread.add(connection)
                self._watch(connection, select.EPOLLOUT)

    def _take_turn(self) -> None:
        # Connections before listeners: what is accepted may get the descriptor of one that ends here.
        listeners = []
        for descriptor, _ in self._epoll.poll(0, EVENTS_PER_TURN):
            connection = self._watched.get(descriptor)
            if connection is None:
                listeners.append(descriptor)
            else:
                self._go_on(connection)
        for descriptor in listeners:
            self._acceptor.accept_from(descriptor)

    def _go_on(self, connection: Connection) -> None:
        match connection.stage:
            case Stage.RECEIVING:
                self._receive(connection)
            case Stage.ANSWERING:
                # It is watched for nothing but its end.
                self._drop(connection, "gone")
            case Stage.SENDING:
                self._send_rest(connection)

    def _room(self) -> int:
        return self._limits.max_connections - len(self._connections)

    def _shed(self) -> bool:
        connection = self._connections.to_shed()
        if connection is None:
            return False
        self._drop(connection, "shed")
        return True

    def _admit(self, sock: socket.socket) -> None:
        peer = self._identify(sock)
        connection = Connection(self, sock, peer)
        self._connections.add(peer.key, connection)
        self._observer.accepted(peer)
        self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            event = connection.receive()
        except BlockingIOError:
            event = None
        except OSError:
            self._drop(connection, "gone")
            return
        match event:
            case RequestReceived():
                connection.request = event.request
                self._answer(connection)
            case None:
                self._await_request(connection)
            case ProtocolViolation():
                self._observer.malformed(connection.peer, event)
                self._drop(connection, "malformed")
            case PeerClosed():
                # Probes connect and go; that is no error.
                self._end(connection)

    def _await_request(self, connection: Connection) -> None:
        if not connection.watched:
            self._connections.start_receiving(connection.peer.key, connection)
            self._silent.add(connection)
            self._watch(connection, select.EPOLLIN)

    def _answer(self, connection: Connection) -> None:
        connection.stage = Stage.ANSWERING
        connection.since = self._clock()
        if connection.watched:
            self._stop_receiving(connection)
        answer = self._service.respond(connection.request, connection.peer.key, connection)
        if not isinstance(answer, Ticket):
            self.send(connection, answer)
            return
        connection.ticket = answer
        if connection.watched or not self._service.prompt:
            # Nothing more is read: a client that sends for ever must not cost anything. Its end is always told.
            self._watch(connection, 0)

    def _send_rest(self, connection: Connection) -> None:
        try:
            sent = connection.send_rest()
        except OSError:
            self._drop(connection, "gone")
            return
        if sent:
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        seconds = self._clock() - connection.since
        self._observer.answered(connection.peer, connection.request, connection.response, seconds)
        self._end(connection)

    def _first_byte_is_due(self, connection: Connection) -> None:
        if connection.started:
            self._partial.add(connection)
        else:
            self._drop(connection, "timeout")

    def _request_is_due(self, connection: Connection) -> None:
        self._drop(connection, "timeout")

    def _answer_is_due(self, connection: Connection) -> None:
        self._drop(connection, "write_timeout")

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched:
            self._epoll.modify(connection.sock, events)
        else:
            connection.watched = True
            self._watched[connection.sock.fileno()] = connection
            self._epoll.register(connection.sock, events)

    def _stop_receiving(self, connection: Connection) -> None:
        self._silent.discard(connection)
        self._partial.discard(connection)
        self._connections.stop_receiving(connection.peer.key, connection)
        self._changed.set()

    def _drop(self, connection: Connection, reason: str) -> None:
        """Close without an answer, and say why."""
        self._observer.dropped(connection.peer, reason)
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        if connection.watched:
            self._stop_receiving(connection)
            self._unread.discard(connection)
            del self._watched[connection.sock.fileno()]
        if connection.ticket is not None:
            self._service.abandon(connection.ticket)
            connection.ticket = None
        connection.sock.close()
        self._connections.remove(connection.peer.key, connection)
        self._observer.closed(connection.peer)
        self._changed.set()
        if self._acceptor.hindered:
            self._acceptor.go_on()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True
