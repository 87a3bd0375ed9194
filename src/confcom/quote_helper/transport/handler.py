"""Handling of each connection: receive its request, get and send the answer, wait until it is read."""

import asyncio
import logging
import math
import select
import socket
from collections.abc import Callable, Hashable
from enum import StrEnum, auto
from functools import partial
from typing import Final, Protocol

from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import Request, Response
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService, Ticket
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.transport.connection import ENDED, PAUSED, RECEIVING, UNREAD, Connection
from confcom.quote_helper.transport.connections import Connections
from confcom.quote_helper.transport.peers import Peer
from confcom.quote_helper.transport.slow_peers import Outcome, SlowPeers

_logger = logging.getLogger(__name__)

_READ_EVENTS: Final = select.EPOLLOUT | select.EPOLLET
"""The kernel raises EPOLLOUT when a client has read or dropped what was sent. Edge-triggered, because a socket with a
small unread answer counts as writable all the time."""
_INPUT_EVENTS: Final = _READ_EVENTS | select.EPOLLIN
"""_READ_EVENTS and input, where clients can pass descriptors. If a client passes its own end of the connection and
exits, the answer stays unread, and the connection ends only when the helper receives that end."""
EVENTS_PER_TURN: Final = 64
"""Number of connections read in one turn. A request takes under 0.3 ms; the loop may be blocked for 50 ms."""
READ_SECONDS: Final = 0.001
"""Delay of checks whether a client has read its answer; epoll reports it while paused connections resume."""
TICK_SECONDS: Final = 0.1
"""Interval of checks for connections that have waited too long: 4,096 connections take about a millisecond."""


class DropReason(StrEnum):
    """Why a connection ends without a whole answer, for metrics."""

    MALFORMED = auto()
    TIMEOUT = auto()
    SHED = auto()
    OVER_SHARE = auto()  # the peer was at its limits for too long
    GONE = auto()  # the client disconnected before it was answered
    FAILED = auto()  # an error in the helper
    STOPPING = auto()


class Observer(Protocol):
    """Observes every answer, and every connection that ends without an answer. No method may block."""

    def accepted(self, count: int) -> None: ...

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Record an answer, sent `seconds` after its request was complete."""

    def dropped(self, peer: Peer, reason: DropReason) -> None: ...

    def malformed(self, peer: Peer, error: ProtocolError) -> None: ...  # `dropped` follows

    def accepting_paused(self, reason: str) -> None: ...


class ConnectionHandler:
    """Handles connections; an exception ends only one. `slow_peers` is None if the kernel refuses descriptors.

    `clock` is finer than uvloop's clock, which counts milliseconds.
    """

    def __init__(
        self,
        *,
        stale: StaleTargetPolicy,
        observer: Observer,
        limits: HelperLimits,
        clock: Callable[[], float],
        slow_peers: SlowPeers | None,
    ) -> None:
        self.epoll = select.epoll()  # the server also registers its listeners here
        self.service = QuoteService(self._answer, stale=stale, limits=limits, clock=clock)
        self.connections = Connections(limits)
        self._slow = slow_peers
        self.short_of_memory_at = -math.inf
        """Time of the last refusal for lack of memory in which the refused peer itself held no memory."""
        self._unread_events = _READ_EVENTS if slow_peers is None else _INPUT_EVENTS
        self.observer = observer
        self.clock = clock
        self._watched: dict[int, Connection] = {}
        self.limits = limits
        self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._give_up_late)
        self._resuming = False
        self._sent: list[Connection] = []  # connections answered since the last check
        self._failure_log = LogLimiter(limits.repeated_log_seconds, clock)

    @property
    def free_places(self) -> int:
        return self.connections.free_places - (0 if self._slow is None else self._slow.closing)

    def admit(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._run(self._receive_in_turn, connection)

    def turn_away(self, sock: socket.SocketType, peer: Peer) -> None:
        try:
            self.observer.dropped(peer, DropReason.SHED)
        except Exception as error:  # noqa: BLE001 # the caller has other sockets
            self._log_failure(error)
        self._close(sock, peer.share_key)

    def poll(self) -> tuple[list[int], bool]:
        """Handle one turn's events; return listeners with events, and whether more events may be ready."""
        others, ready = [], self.epoll.poll(0, EVENTS_PER_TURN)
        for descriptor, events in ready:
            connection = self._watched.get(descriptor)
            if connection is None:
                others.append(descriptor)
            else:
                self._run(self._handle_event, connection, events)
        return others, len(ready) == EVENTS_PER_TURN

    def drop(self, connection: Connection, reason: DropReason) -> None:
        try:
            self.observer.dropped(connection.peer, reason)
        finally:
            self._end(connection)

    def drop_unserved(self) -> None:
        """Close connections with an incomplete request, and refuse paused ones: EVENTS_PER_TURN at most."""
        for connection, _ in self.connections.sheddable_since(math.inf)[:EVENTS_PER_TURN]:
            self._run(self._give_up, connection, DropReason.STOPPING)

    def close(self) -> None:
        self._tick.cancel()
        for connection in self.connections:
            if connection.stage is UNREAD:
                self._end(connection)
            else:
                self.drop(connection, DropReason.STOPPING)
        self.epoll.close()
        if self._slow is not None:
            self._slow.end()

    def _receive_in_turn(self, connection: Connection) -> None:
        if self.connections.has_paused(connection):
            self._pause(connection)
        else:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        if self._slow is not None and self._is_slow(connection):
            self._receive_in_thread(connection, self._received)
        elif self._read(connection, connection.receive):
            self._serve(connection)

    def _receive_in_thread(self, connection: Connection, step: Callable[[Connection, Outcome], None]) -> None:
        """Receive in the thread of slow peers; then `step` handles the outcome in the event loop."""
        assert self._slow is not None
        self._stop_watching(connection)
        if connection.stage is RECEIVING:
            self.connections.set_incomplete(connection, self.clock())
        self._slow.receive(connection.account.peer, connection.receive, partial(self._run, step, connection))

    def _received(self, connection: Connection, received: Outcome) -> None:
        if connection.stage is RECEIVING and self._read(connection, received):
            self._serve(connection)

    def _read(self, connection: Connection, receive: Outcome) -> bool:
        """Read what arrived; return True for a complete request, or False if the connection waits or ends."""
        try:
            request = connection.session.receive(receive() if self._slow is None else self._timed(connection, receive))
        except BlockingIOError:
            request = None
        except EOFError:
            self._end(connection)  # probes connect and disconnect; that is no error
            return False
        except ProtocolError as error:
            self.observer.malformed(connection.peer, error)
            self.drop(connection, DropReason.MALFORMED)
            return False
        if request is not None:
            connection.request, connection.complete = request, True
            connection.since = self.clock()
        elif not connection.watched:
            self.connections.set_incomplete(connection, self.clock())
            self._watch(connection, select.EPOLLIN)
        return connection.complete

    def _serve(self, connection: Connection) -> None:
        if not self.connections.serve(connection):
            self._pause(connection)
            return
        answer = self.service.respond(connection.request, connection.account.peer, connection)
        if not isinstance(answer, Ticket):
            self._answer(connection, answer)
            return
        connection.ticket = answer
        if connection.watched or not self.service.prompt:
            # Watch only for a hang-up, which epoll always reports. Further input is not read, and so costs nothing.
            self._watch(connection, 0)

    def _pause(self, connection: Connection) -> None:
        self._stop_watching(connection)
        self.connections.pause(connection, self.clock())
        self._look_at_sent()  # answers that were read meanwhile may have freed enough memory

    def _resume(self, connection: Connection) -> None:
        self.connections.resume(connection)
        if connection.complete:
            self._serve(connection)
        else:
            self._receive(connection)

    def _refuse(self, connection: Connection) -> None:
        """Refuse a request whose peer was at its limits for too long; if memory is short, drop the connection."""
        self.connections.resume(connection)
        if not connection.account.unread and not self.connections.has_memory_for(connection):
            self.short_of_memory_at = self.clock()
        if not connection.complete and not self._is_slow(connection) and not self._read(connection, connection.receive):
            return
        if connection.complete and self.connections.refuse(connection):
            self._answer(connection, self.service.refuse_as_busy(connection.request))
        else:
            self.drop(connection, DropReason.OVER_SHARE)

    def _answer(self, connection: Connection, response: Response) -> None:
        connection.ticket = None
        try:
            size = connection.send(response)
            request, seconds = connection.request, self.clock() - connection.since
            connection.finish()
            self.connections.set_answered(connection, size)
            self._resume_soon()
            if connection.watched or self._resuming:
                self._watch(connection, self._unread_events)
            else:
                if not self._sent:
                    asyncio.get_running_loop().call_later(READ_SECONDS, self._look_at_sent)
                self._sent.append(connection)
            self.observer.answered(connection.peer, request, response, seconds)
        except Exception as error:  # noqa: BLE001 # the caller has other connections to answer
            self._fail(connection, error)

    def _end(self, connection: Connection) -> None:
        if connection.stage is ENDED:
            return
        if self._is_slow(connection):
            self._stop_watching(connection)
        elif connection.watched:
            del self._watched[connection.sock.fileno()]  # close() ends the epoll's watch, and saves a system call
        if connection.ticket is not None:
            self.service.abandon(connection.ticket)
            connection.ticket = None
        self.connections.end(connection)
        self._close(connection.sock, connection.account.peer)
        self._resume_soon()

    def _close(self, sock: socket.SocketType, peer: Hashable) -> None:
        if self._slow is None:
            sock.close()
        elif peer in self._slow:
            self._slow.close(peer, sock)
        else:
            self._slow.timed(peer, sock.close)

    def _run(self, step: Callable[..., None], connection: Connection, *arguments: object) -> None:
        try:
            step(connection, *arguments)
        except Exception as error:  # noqa: BLE001 # for example MemoryError; the caller has other connections
            self._fail(connection, error)

    def _fail(self, connection: Connection, error: Exception) -> None:
        gone = isinstance(error, ConnectionError)
        if connection.stage is not ENDED:
            self.drop(connection, DropReason.GONE if gone else DropReason.FAILED)
        if not gone:
            self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        if (suppressed := self._failure_log.admit()) is not None:
            _logger.error("a connection failed", exc_info=error, extra={"suppressed": suppressed})

    def _handle_event(self, connection: Connection, events: int) -> None:
        stage = connection.stage
        if stage is RECEIVING:
            self._receive_in_turn(connection)
        elif stage is UNREAD:
            if not connection.has_unread():
                self._end(connection)
            elif events & select.EPOLLIN:
                self._receive_needless(connection)
        else:
            # While a request is being answered, only a hang-up causes an event.
            self.drop(connection, DropReason.GONE)

    def _receive_needless(self, connection: Connection) -> None:
        """Receive bytes that a client sends after its request, so that descriptors with them are closed."""
        if self._is_slow(connection):
            self._receive_in_thread(connection, self._drop_received)
        else:
            self._drop_received(connection, partial(self._timed, connection, connection.receive))

    def _drop_received(self, connection: Connection, receive: Outcome) -> None:
        if connection.stage is not UNREAD:
            return
        try:
            events = _INPUT_EVENTS if receive() else _READ_EVENTS  # at the end of input, watch no input
        except BlockingIOError:
            events = _INPUT_EVENTS
        except OSError:
            self._end(connection)
            return
        self._watch(connection, events)  # register the socket again, since more input may have come

    def _is_slow(self, connection: Connection) -> bool:
        return self._slow is not None and connection.account.peer in self._slow

    def _timed(self, connection: Connection, call: Outcome) -> bytes:
        return call() if self._slow is None else self._slow.timed(connection.account.peer, call)

    def _look_at_sent(self) -> None:
        sent, self._sent = self._sent, []
        for connection in sent:
            self._run(self._end_or_watch, connection)

    def _end_or_watch(self, connection: Connection) -> None:
        if connection.stage is UNREAD and connection.has_unread():
            self._watch(connection, self._unread_events)
        else:
            self._end(connection)

    def _give_up_late(self) -> None:
        """Give up at most EVENTS_PER_TURN connections whose request was incomplete or paused for too long."""
        delay = TICK_SECONDS
        try:
            now = self.clock()
            paused, incomplete = now - self.limits.peer_wait_seconds, now - self.limits.whole_request_seconds
            late = [
                connection
                for connection, since in self.connections.sheddable_since(max(paused, incomplete))
                if since <= (paused if connection.stage is PAUSED else incomplete)
            ]
            for connection in late[:EVENTS_PER_TURN]:
                self._run(self._give_up, connection, DropReason.TIMEOUT)
            if self.service.refuse_late(EVENTS_PER_TURN) or len(late) > EVENTS_PER_TURN:
                delay = 0
        finally:
            self._tick = asyncio.get_running_loop().call_later(delay, self._give_up_late)

    def _give_up(self, connection: Connection, reason: DropReason) -> None:
        if connection.stage is PAUSED:
            self._refuse(connection)
        else:
            self.drop(connection, reason)

    def _resume_soon(self) -> None:
        if self.connections.may_resume and not self._resuming:
            self._resuming = True
            asyncio.get_running_loop().call_soon(self._resume_paused)

    def _resume_paused(self) -> None:
        self._resuming = False
        for _ in range(EVENTS_PER_TURN):
            connection = self.connections.next_to_resume()
            if connection is None:
                return
            self._run(self._resume, connection)
        self._resume_soon()

    def _stop_watching(self, connection: Connection) -> None:
        if connection.watched:
            connection.watched = False
            del self._watched[connection.sock.fileno()]
            self.epoll.unregister(connection.sock)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched:
            self.epoll.modify(connection.sock, events)
        else:
            self._watched[connection.sock.fileno()] = connection
            connection.watched = True
            self.epoll.register(connection.sock, events)
