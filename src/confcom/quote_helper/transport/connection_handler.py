"""What happens to each connection: its request is received, waits, is answered, and its answer is read."""

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
"""Looking a member up by its enum takes a tenth of a microsecond, and each connection goes through four stages."""


class ConnectionHandler:
    """Serves connections until they end; whatever one of them raises ends it alone.

    Args:
        epoll: where connections are watched that have to wait; whoever polls it calls `poll`.
        service: makes the answers.
        observer: is told of everything.
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
        """How many connections were admitted since the start."""
        self._table: ConnectionTable[Connection] = ConnectionTable(
            places=limits.max_connections,
            waiting=limits.max_waiting,
            memory=limits.client_memory,
            memory_per_peer=limits.memory_per_peer,
        )
        self._watched: dict[int, Connection] = {}
        self._late = RequestDeadlines(limits, clock, self._request_is_late)
        self._paused = PausedConnections(
            may_go_on=self._may_go_on,
            go_on=self._go_on_paused,
            refuse=lambda connection: self._run(self._refuse_paused, connection),
            wait_seconds=limits.share_seconds,
            clock=clock,
        )
        self._unsent = Deadlines(limits.write_seconds, clock, self._answer_is_due)
        self._unread = UnreadAnswers(watch=self._watch_unread, read=self._end, fail=self._fail, clock=clock)
        self._failure_log = LogLimiter(limits.repeated_log_seconds, clock)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._table)

    @property
    def unread(self) -> int:
        """How many of them have their answer, which the client has not read."""
        return len(self._unread)

    @property
    def unanswered(self) -> int:
        """How many of them have no answer yet."""
        return len(self._table) - len(self._unread)

    @property
    def unserved(self) -> int:
        """How many of them have no complete request, or one that is paused."""
        return self._table.sheddable

    @property
    def memory(self) -> int:
        """How many bytes are held for clients."""
        return self._table.memory

    def admit(self, sock: socket.SocketType, peer: Peer) -> None:
        """Serve a connection that was accepted; it is closed here."""
        self.admitted += 1
        connection = Connection(self, sock, peer)
        connection.holding = self._table.add(peer.share_key, connection)
        try:
            self._receive(connection)
        except Exception as error:  # noqa: BLE001 # it may not keep others from being accepted
            self._fail(connection, error)

    def poll(self) -> Iterator[int]:
        """Go on with the connections that have events; descriptors of others that have are the caller's."""
        self._unread.check()
        for descriptor, _ in self._epoll.poll(0, EVENTS_PER_TURN):
            connection = self._watched.get(descriptor)
            if connection is None:
                yield descriptor
            else:
                self._run(self._go_on, connection)

    def shed(self, began_before: float) -> bool:
        """Close one connection for want of places; whether there was one that may be closed."""
        connection = self._table.to_shed(began_before)
        if connection is None:
            return False
        self._drop(connection, "shed")
        return True

    def drop_unserved(self) -> None:
        """Close connections whose request is not complete, and refuse those that are paused, as many as in one turn."""
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
        self._late.close()
        self._paused.close()
        self._unsent.close()

    def send(self, connection: Connection, response: Response) -> None:
        """Answer a connection, and close it when the client has read the answer."""
        try:
            if connection.send(response):
                self._answered(connection)
            else:
                connection.stage = _SENDING
                # The kernel has a part of the answer, and the helper still all of it.
                self._charge(connection, connection.charged + connection.answer_size)
                self._watch(connection, select.EPOLLOUT)
                self._unsent.add(connection)
        except Exception as error:  # noqa: BLE001 # the caller answers others too
            self._fail(connection, error)

    def _run(self, step: Callable[[Connection], None], connection: Connection) -> None:
        """Run one step of a connection; whatever it raises ends this connection and nothing else."""
        try:
            step(connection)
        except Exception as error:  # noqa: BLE001 # the memory that it needs is not there, say
            self._fail(connection, error)

    def _fail(self, connection: Connection, error: Exception) -> None:
        gone = isinstance(error, ConnectionError)
        if connection.stage is not _ENDED:
            self._drop(connection, "gone" if gone else "failed")
        if not gone and (suppressed := self._failure_log.admit()) is not None:
            _logger.error("a connection failed", exc_info=error, extra={"suppressed": suppressed})

    def _go_on(self, connection: Connection) -> None:
        stage = connection.stage
        if stage is _RECEIVING:
            self._receive(connection)
        elif stage is _UNREAD:
            self._unread.check_one(connection)
        elif stage is not _SENDING:
            # It is watched for nothing but its end.
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
                self._await(connection, select.EPOLLIN)
            case ProtocolViolation():
                self._observer.malformed(connection.peer, event)
                self._drop(connection, "malformed")
            case PeerClosed():
                # Probes connect and go; that is no error.
                self._end(connection)

    def _await(self, connection: Connection, events: int) -> None:
        """Leave a connection whose request is not served yet, until one of `events`; it may be closed for others."""
        first = not connection.watched
        self._watch(connection, events)
        if first:
            self._late.add(connection)
            self._table.allow_shedding(connection, connection.holding, self._clock())

    def _take_request(self, connection: Connection) -> None:
        """Serve a complete request, as soon as its peer may have one more."""
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
            # Nothing more is read: a client that sends for ever must not cost anything. Its end is always told.
            self._watch(connection, 0)

    def _pause(self, connection: Connection) -> None:
        connection.stage = _PAUSED
        self._await(connection, 0)
        if connection.complete:
            self._charge(connection, connection.received)
            self._late.discard(connection)
        self._paused.add(connection)

    def _may_go_on(self, connection: Connection) -> bool:
        if connection.complete:
            return self._may_wait(connection, request_memory(connection.request, connection.received))
        return self._table.room(connection.holding) > 0

    def _go_on_paused(self, connection: Connection) -> None:
        connection.stage = _RECEIVING
        self._run(self._take_request if connection.complete else self._receive, connection)

    def _answered(self, connection: Connection) -> None:
        connection.answered_at = self._clock()
        seconds = connection.answered_at - connection.since
        self._observer.answered(connection.peer, connection.request, connection.response, seconds)
        self._await_read(connection)

    def _await_read(self, connection: Connection) -> None:
        """Wait, without limit, until the client has read: closing would not free what the kernel holds for it."""
        connection.finish()
        self._stop_waiting(connection)
        connection.stage = _UNREAD
        connection.in_time = True
        connection.holding.memory -= connection.charged
        self._unread.add(connection)

    def _watch_unread(self, connection: Connection) -> None:
        self._unsent.discard(connection)
        self._count_for_peer(connection)
        self._charge(connection, unread_memory(connection.answer_size))
        connection.end_answer()
        self._watch(connection, READ_EVENTS)

    def _request_is_late(self, connection: Connection) -> None:
        self._drop(connection, "over_share" if connection.stage is _PAUSED else "timeout")

    def _refuse_paused(self, connection: Connection) -> None:
        """Refuse a request whose peer has held too much for too long; without a byte if it may not have that either."""
        size = CONNECTION_MEMORY + connection.received
        if size - connection.charged > self._table.room(connection.holding):
            self._drop(connection, "over_share")
            return
        self._start_waiting(connection, size)
        self.send(connection, self._service.refuse_as_busy(connection.request))

    def _answer_is_due(self, connection: Connection) -> None:
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
        """Count so many bytes for a connection, in place of those that it had."""
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
        self._late.discard(connection)
        self._paused.discard(connection)
        self._table.forbid_shedding(connection, connection.holding)
        self._changed()

    def _drop(self, connection: Connection, reason: str) -> None:
        """Close without an answer, and say why."""
        try:
            self._observer.dropped(connection.peer, reason)
        finally:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        if connection.stage is _ENDED:
            return
        if connection.watched:
            self._stop_receiving(connection)
            self._unsent.discard(connection)
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
