"""The life of each connection: receive the request, wait, send the answer, wait until the client has read it."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Iterator

from confcom.aesm.messages import Response
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived
from confcom.daemon.deadlines import Deadlines
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits_and_deadlines import CONNECTION_MEMORY, EVENTS_PER_TURN, HelperLimits
from confcom.quote_helper.quoting.service import QuoteService, Ticket
from confcom.quote_helper.transport.connection import RECEIVE_BYTES, Connection, Stage, request_memory
from confcom.quote_helper.transport.connection_table import ConnectionTable
from confcom.quote_helper.transport.observer import Observer
from confcom.quote_helper.transport.paused_connections import PausedConnections
from confcom.quote_helper.transport.unread_answer_watch import READ_EVENTS, UnreadAnswers

_logger = logging.getLogger(__name__)

_RECEIVING, _PAUSED, _ANSWERING, _SENDING, _UNREAD, _ENDED = Stage
"""Names of their own, because looking up an enum member takes 0.1 µs, and each connection goes through four stages."""


class ConnectionHandler:
    """Serves connections until they end; an exception in one of them ends only that one.

    `changed` is called when a connection has ended, or its request is complete.
    """

    def __init__(
        self,
        *,
        epoll: select.epoll,
        table: ConnectionTable,
        service: QuoteService[Connection],
        observer: Observer,
        changed: Callable[[], None],
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._epoll = epoll
        self._table = table
        self._service = service
        self._observer = observer
        self._changed = changed
        self._clock = clock
        service.deliver = self.send
        self._watched: dict[int, Connection] = {}
        self._first_byte = Deadlines(limits.first_byte_seconds, clock, self._on_first_byte_timeout)
        rest = max(0.0, limits.whole_request_seconds - limits.first_byte_seconds)
        self._whole_request = Deadlines(rest, clock, self._on_request_timeout)
        self._paused = PausedConnections(
            table,
            resume=self._resume,
            refuse=lambda connection: self._run(self._refuse_paused, connection),
            wait_seconds=limits.peer_wait_seconds,
            clock=clock,
        )
        self._write_deadlines = Deadlines(limits.write_seconds, clock, self._on_write_timeout)
        self._unread = UnreadAnswers(watch=self._watch_unread, read=self._end, fail=self._fail, clock=clock)
        self._failure_log = LogLimiter(limits.repeated_log_seconds, clock)

    def admit(self, connection: Connection) -> None:
        """Serve a connection that was accepted, and close it at the end."""
        self._table.add(connection)
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

    def drop(self, connection: Connection, reason: str) -> None:
        """Close a connection without an answer, and report the reason."""
        try:
            self._observer.dropped(connection.peer, reason)
        finally:
            self._end(connection)

    def drop_unserved(self) -> None:
        """Close connections with an incomplete request and refuse paused ones, as many as one turn handles."""
        for connection in self._table.oldest_sheddable(EVENTS_PER_TURN):
            if connection.complete:
                self._run(self._refuse_paused, connection)
            else:
                self.drop(connection, "stopping")

    def close(self) -> None:
        """Close all connections."""
        self._unread.close()
        for connection in self._table:
            if connection.stage is _UNREAD:
                self._end(connection)
            else:
                self.drop(connection, "stopping")
        for waiting in (self._first_byte, self._whole_request, self._paused, self._write_deadlines):
            waiting.close()

    def send(self, connection: Connection, response: Response) -> None:
        """Send the answer, and close the connection when the client has read it."""
        connection.ticket = None
        try:
            if connection.send(response):
                self._answered(connection)
            else:
                connection.stage = _SENDING
                # The kernel holds a part of the answer, and the helper still holds all of it.
                self._table.charge(connection, connection.charged + connection.answer_size)
                self._watch(connection, select.EPOLLOUT)
                self._write_deadlines.add(connection)
        except Exception as error:  # noqa: BLE001 # the caller has other connections to answer
            self._fail(connection, error)

    def _run(self, step: Callable[[Connection], None], connection: Connection) -> None:
        try:
            step(connection)
        except Exception as error:  # noqa: BLE001 # for example MemoryError
            self._fail(connection, error)

    def _fail(self, connection: Connection, error: Exception) -> None:
        gone = isinstance(error, ConnectionError)
        if connection.stage is not _ENDED:
            self.drop(connection, "gone" if gone else "failed")
        if not gone and (suppressed := self._failure_log.admit()) is not None:
            _logger.error("a connection failed", exc_info=error, extra={"suppressed": suppressed})

    def _handle_event(self, connection: Connection) -> None:
        stage = connection.stage
        if stage is _RECEIVING:
            self._receive(connection)
        elif stage is _UNREAD:
            if not connection.has_unread():
                self._end(connection)
        elif stage is not _SENDING:
            # In the other stages only a hang-up is watched for.
            self.drop(connection, "gone")
        elif connection.send_rest():
            self._answered(connection)

    def _receive(self, connection: Connection) -> None:
        room = self._table.room(connection)
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
                self._table.charge(connection, connection.buffered_memory)
                self._wait_sheddable(connection, select.EPOLLIN)
            case ProtocolViolation():
                self._observer.malformed(connection.peer, event)
                self.drop(connection, "malformed")
            case PeerClosed():
                # Probes connect and disconnect; that is no error.
                self._end(connection)

    def _wait_sheddable(self, connection: Connection, events: int) -> None:
        first = not connection.watched
        self._watch(connection, events)
        if first:
            self._first_byte.add(connection)
            self._table.allow_shedding(connection, self._clock())

    def _take_request(self, connection: Connection) -> None:
        """Pass a complete request to the service, or pause it if its peer's limits do not allow one more."""
        size = request_memory(connection.request, connection.received)
        if not self._table.may_wait(connection, size):
            self._pause(connection)
            return
        self._table.start_waiting(connection, size)
        if connection.watched:
            self._stop_receiving(connection)
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
            self._table.charge(connection, connection.received)
            self._first_byte.discard(connection)
            self._whole_request.discard(connection)
        self._paused.add(connection)

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
        connection.stage = _UNREAD
        self._table.await_read(connection)
        if connection.watched:
            self._watch_unread(connection)
        else:
            self._unread.add(connection)

    def _watch_unread(self, connection: Connection) -> None:
        self._write_deadlines.discard(connection)
        self._table.count_late(connection)
        connection.end_answer()
        self._watch(connection, READ_EVENTS)

    def _on_first_byte_timeout(self, connection: Connection) -> None:
        if connection.started:
            self._whole_request.add(connection)
        else:
            self._on_request_timeout(connection)

    def _on_request_timeout(self, connection: Connection) -> None:
        self.drop(connection, "over_share" if connection.stage is _PAUSED else "timeout")

    def _refuse_paused(self, connection: Connection) -> None:
        """Refuse a request whose peer was at its limits for too long; close it without an answer if memory is short."""
        size = CONNECTION_MEMORY + connection.received
        if size - connection.charged > self._table.room(connection):
            self.drop(connection, "over_share")
            return
        self._table.start_waiting(connection, size)
        self._stop_receiving(connection)
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

    def _stop_receiving(self, connection: Connection) -> None:
        self._first_byte.discard(connection)
        self._whole_request.discard(connection)
        self._paused.discard(connection)
        self._table.forbid_shedding(connection)
        self._changed()

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
            self._table.unread -= 1
        connection.stage = _ENDED
        connection.sock.close()
        self._table.remove(connection)
        self._changed()
