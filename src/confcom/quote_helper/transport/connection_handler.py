"""The life of each connection: receive the request, wait, send the answer, wait until the client has read it."""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable, Iterator

from confcom.aesm.messages import Response
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived
from confcom.daemon.deadlines import Deadlines
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits import CONNECTION_MEMORY, EVENTS_PER_TURN, HelperLimits
from confcom.quote_helper.quoting.service import QuoteService, Ticket
from confcom.quote_helper.transport.connection import RECEIVE_BYTES, Connection, Stage, request_memory, unread_memory
from confcom.quote_helper.transport.connection_table import ConnectionTable
from confcom.quote_helper.transport.observer import Observer
from confcom.quote_helper.transport.paused_connections import PausedConnections
from confcom.quote_helper.transport.peers import Peer
from confcom.quote_helper.transport.request_deadlines import RequestDeadlines
from confcom.quote_helper.transport.unread_answers import READ_EVENTS, UnreadAnswers

_logger = logging.getLogger(__name__)

_RECEIVING, _PAUSED, _ANSWERING, _SENDING, _UNREAD, _ENDED = Stage
"""Names of their own, because looking up an enum member takes 0.1 µs, and each connection goes through four stages."""


class ConnectionHandler:
    """Serves connections until they end; an exception in one of them ends only that one.

    Args:
        epoll: watches the connections that have to wait.
        service: makes the answers.
        observer: receives all events.
        changed: called when a connection has ended, or its request is complete.
        limits: deadlines and caps.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        epoll: select.epoll,
        service: QuoteService,
        observer: Observer,
        changed: Callable[[], None],
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._epoll = epoll
        self._service = service
        self._observer = observer
        self._changed = changed
        self._clock = clock
        self.admitted = 0
        """Number of connections admitted since the start."""
        self._table: ConnectionTable[Connection] = ConnectionTable(
            places=limits.max_connections,
            waiting=limits.max_waiting,
            memory=limits.client_memory,
            memory_per_peer=limits.memory_per_peer,
        )
        self._watched: dict[int, Connection] = {}
        self._request_deadlines = RequestDeadlines(limits, clock, self._on_request_timeout)
        self._paused = PausedConnections(
            may_resume=self._may_resume,
            resume=self._resume,
            refuse=lambda connection: self._run(self._refuse_paused, connection),
            wait_seconds=limits.share_seconds,
            clock=clock,
        )
        self._write_deadlines = Deadlines(limits.write_seconds, clock, self._on_write_timeout)
        self._unread = UnreadAnswers(watch=self._watch_unread, read=self._end, fail=self._fail, clock=clock)
        self._failure_log = LogLimiter(limits.repeated_log_seconds, clock)

    @property
    def open(self) -> int:
        """Number of open connections."""
        return len(self._table)

    @property
    def unread(self) -> int:
        """Number of open connections whose answer was sent, and not read by the client."""
        return len(self._unread)

    @property
    def unanswered(self) -> int:
        """Number of open connections without an answer yet."""
        return len(self._table) - len(self._unread)

    @property
    def unserved(self) -> int:
        """Number of open connections whose request is incomplete or paused."""
        return self._table.sheddable

    @property
    def memory(self) -> int:
        """Bytes held for clients."""
        return self._table.memory

    def admit(self, sock: socket.SocketType, peer: Peer) -> None:
        """Serve an accepted connection, and close it at the end."""
        self.admitted += 1
        connection = Connection(self, sock, peer)
        connection.holding = self._table.add(peer.share_key, connection)
        try:
            self._receive(connection)
        except Exception as error:  # noqa: BLE001 # a failure must not keep others from being accepted
            self._fail(connection, error)

    def poll(self) -> Iterator[int]:
        """Handle the events of connections; yield the other descriptors that have events."""
        self._unread.check()
        for descriptor, _ in self._epoll.poll(0, EVENTS_PER_TURN):
            connection = self._watched.get(descriptor)
            if connection is None:
                yield descriptor
            else:
                self._run(self._handle_event, connection)

    def shed(self, began_before: float) -> bool:
        """Close one connection to make room for another; return whether there was one that may be closed."""
        connection = self._table.to_shed(began_before)
        if connection is None:
            return False
        self._drop(connection, "shed")
        return True

    def drop_unserved(self) -> None:
        """Close connections with an incomplete request and refuse paused ones, as many as one turn handles."""
        for connection in self._table.oldest_sheddable(EVENTS_PER_TURN):
            if connection.complete:
                self._run(self._refuse_paused, connection)
            else:
                self._drop(connection, "stopping")

    def close(self) -> None:
        """Close all connections."""
        self._unread.close()
        for connection in self._table:
            if connection.stage is _UNREAD:
                self._end(connection)
            else:
                self._drop(connection, "stopping")
        self._request_deadlines.close()
        self._paused.close()
        self._write_deadlines.close()

    def send(self, connection: Connection, response: Response) -> None:
        """Send the answer, and close the connection when the client has read it."""
        try:
            if connection.send(response):
                self._answered(connection)
            else:
                connection.stage = _SENDING
                # The kernel holds a part of the answer, and the helper still holds all of it.
                self._charge(connection, connection.charged + connection.answer_size)
                self._watch(connection, select.EPOLLOUT)
                self._write_deadlines.add(connection)
        except Exception as error:  # noqa: BLE001 # the caller has other connections to answer
            self._fail(connection, error)

    def _run(self, step: Callable[[Connection], None], connection: Connection) -> None:
        """Run one step of a connection; an exception ends only this connection."""
        try:
            step(connection)
        except Exception as error:  # noqa: BLE001 # for example MemoryError
            self._fail(connection, error)

    def _fail(self, connection: Connection, error: Exception) -> None:
        gone = isinstance(error, ConnectionError)
        if connection.stage is not _ENDED:
            self._drop(connection, "gone" if gone else "failed")
        if not gone and (suppressed := self._failure_log.admit()) is not None:
            _logger.error("a connection failed", exc_info=error, extra={"suppressed": suppressed})

    def _handle_event(self, connection: Connection) -> None:
        stage = connection.stage
        if stage is _RECEIVING:
            self._receive(connection)
        elif stage is _UNREAD:
            self._unread.check_one(connection)
        elif stage is not _SENDING:
            # In the other stages only a hang-up is watched for.
            self._drop(connection, "gone")
        elif connection.send_rest():
            self._answered(connection)

    def _receive(self, connection: Connection) -> None:
        room = self._table.room(connection.holding)
        if room <= 0:
            self._pause(connection)
            return
        try:
            event = connection.receive(min(room, RECEIVE_BYTES))
        except BlockingIOError:
            event = None
        match event:
            case RequestReceived():
                connection.request = event.request
                connection.complete = True
                connection.since = self._clock()
                self._take_request(connection)
            case None:
                self._charge(connection, connection.buffered_memory)
                self._wait_sheddable(connection, select.EPOLLIN)
            case ProtocolViolation():
                self._observer.malformed(connection.peer, event)
                self._drop(connection, "malformed")
            case PeerClosed():
                # Probes connect and disconnect; that is no error.
                self._end(connection)

    def _wait_sheddable(self, connection: Connection, events: int) -> None:
        """Wait for `events` on a connection whose request is not served yet; it may be shed meanwhile."""
        first = not connection.watched
        self._watch(connection, events)
        if first:
            self._request_deadlines.add(connection)
            self._table.allow_shedding(connection, connection.holding, self._clock())

    def _take_request(self, connection: Connection) -> None:
        """Pass a complete request to the service, or pause it if its peer's limits do not allow one more."""
        size = request_memory(connection.request, connection.received)
        if not self._table.may_wait(connection.holding, size - connection.charged):
            self._pause(connection)
            return
        self._start_waiting(connection, size)
        connection.stage = _ANSWERING
        answer = self._service.respond(connection.request, connection.holding.peer, connection)
        if not isinstance(answer, Ticket):
            self.send(connection, answer)
            return
        connection.ticket = answer
        if connection.watched or not self._service.prompt:
            # Watch only for a hang-up, which epoll always reports. Further input is not read: it must cost nothing.
            self._watch(connection, 0)

    def _pause(self, connection: Connection) -> None:
        connection.stage = _PAUSED
        self._wait_sheddable(connection, 0)
        if connection.complete:
            self._charge(connection, connection.received)
            self._request_deadlines.discard(connection)
        self._paused.add(connection)

    def _may_resume(self, connection: Connection) -> bool:
        if connection.complete:
            return self._may_wait(connection, request_memory(connection.request, connection.received))
        return self._table.room(connection.holding) > 0

    def _resume(self, connection: Connection) -> None:
        connection.stage = _RECEIVING
        self._run(self._take_request if connection.complete else self._receive, connection)

    def _answered(self, connection: Connection) -> None:
        connection.answered_at = self._clock()
        seconds = connection.answered_at - connection.since
        self._observer.answered(connection.peer, connection.request, connection.response, seconds)
        self._await_read(connection)

    def _await_read(self, connection: Connection) -> None:
        """Wait, without a limit, until the client has read the answer: closing would not free the kernel's buffers."""
        connection.finish()
        self._stop_waiting(connection)
        connection.stage = _UNREAD
        connection.in_time = True
        connection.holding.memory -= connection.charged
        self._unread.add(connection)

    def _watch_unread(self, connection: Connection) -> None:
        self._write_deadlines.discard(connection)
        self._count_for_peer(connection)
        self._charge(connection, unread_memory(connection.answer_size))
        connection.end_answer()
        self._watch(connection, READ_EVENTS)

    def _on_request_timeout(self, connection: Connection) -> None:
        self._drop(connection, "over_share" if connection.stage is _PAUSED else "timeout")

    def _refuse_paused(self, connection: Connection) -> None:
        """Refuse a request whose peer was at its limits for too long; close it without an answer if memory is short."""
        size = CONNECTION_MEMORY + connection.received
        if size - connection.charged > self._table.room(connection.holding):
            self._drop(connection, "over_share")
            return
        self._start_waiting(connection, size)
        self.send(connection, self._service.refuse_as_busy(connection.request))

    def _on_write_timeout(self, connection: Connection) -> None:
        self._observer.dropped(connection.peer, "write_timeout")
        self._run(self._await_read, connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched:
            self._epoll.modify(connection.sock, events)
        else:
            self._watched[connection.sock.fileno()] = connection
            connection.watched = True
            self._epoll.register(connection.sock, events)

    def _charge(self, connection: Connection, size: int) -> None:
        """Set the bytes that are counted for a connection."""
        more = size - connection.charged
        connection.charged = size
        self._table.charge(connection.holding, more)
        if more < 0 and self._paused.by_peer:
            self._paused.try_soon()

    def _may_wait(self, connection: Connection, size: int) -> bool:
        return self._table.may_wait(connection.holding, size - connection.charged)

    def _start_waiting(self, connection: Connection, size: int) -> None:
        self._table.start_waiting(connection.holding, size - connection.charged)
        connection.charged = size
        connection.waiting = True
        if connection.watched:
            self._stop_receiving(connection)

    def _stop_waiting(self, connection: Connection) -> None:
        self._table.stop_waiting(connection.holding)
        connection.waiting = False
        if self._paused.by_peer:
            self._paused.try_soon()

    def _count_for_peer(self, connection: Connection) -> None:
        if connection.in_time:
            connection.in_time = False
            connection.holding.memory += connection.charged

    def _stop_receiving(self, connection: Connection) -> None:
        self._request_deadlines.discard(connection)
        self._paused.discard(connection)
        self._table.forbid_shedding(connection, connection.holding)
        self._changed()

    def _drop(self, connection: Connection, reason: str) -> None:
        """Close a connection without an answer, and report the reason."""
        try:
            self._observer.dropped(connection.peer, reason)
        finally:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        if connection.stage is _ENDED:
            return
        if connection.watched:
            self._stop_receiving(connection)
            self._write_deadlines.discard(connection)
            self._watched.pop(connection.sock.fileno(), None)
        if connection.ticket is not None:
            self._service.abandon(connection.ticket)
            connection.ticket = None
        if connection.stage is _UNREAD:
            self._unread.discard()
        connection.stage = _ENDED
        connection.sock.close()
        if connection.waiting:
            self._stop_waiting(connection)
        if connection.in_time:
            self._table.return_memory(connection.charged)
            if self._paused.by_peer:
                self._paused.try_soon()
        elif connection.charged:
            self._charge(connection, 0)
        self._table.remove(connection, connection.holding)
        self._changed()
