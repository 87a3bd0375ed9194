"""The AESM socket: one request per connection, a deadline for each of its stages, and answers in one write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, cast

from confcom.aesm.messages import Response, kind_of
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived, ServerSession
from confcom.daemon.logs import LogLimiter
from confcom.daemon.unix_socket import BoundUnixSocket
from confcom.quote_helper.limits import BACKLOG, HelperLimits
from confcom.quote_helper.metrics import HelperMetrics
from confcom.quote_helper.service import QuoteService

_logger = logging.getLogger(__name__)


class AesmServer:
    """Accepts connections and runs one session on each.

    Args:
        bound: where to serve; it already listens.
        service: makes the answers.
        metrics: counts them.
        malformed_log: bounds the lines about malformed input.
        limits: deadlines and caps.
        clock: monotonic seconds, finer than uvloop's own, which counts milliseconds.
    """

    def __init__(
        self,
        bound: BoundUnixSocket,
        *,
        service: QuoteService,
        metrics: HelperMetrics,
        malformed_log: LogLimiter,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self.service = service
        self.metrics = metrics
        self.limits = limits
        self.clock = clock
        self._malformed_log = malformed_log
        self._server: asyncio.Server | None = None
        self._bound = bound
        self._connections: set[AesmConnection] = set()
        self._receiving: dict[AesmConnection, None] = {}
        self._empty = asyncio.Event()

    async def start(self) -> None:
        """Serve; from here on the socket is the server's to close."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: AesmConnection(self), sock=self._bound.socket, backlog=BACKLOG
        )

    async def drain(self) -> None:
        """Stop: the path goes first, then what has arrived is answered, then everything is closed."""
        self._bound.unlink()
        self.service.stop()
        await asyncio.sleep(self.limits.accept_drain_seconds)
        self._stop_accepting()
        for connection in list(self._receiving):
            connection.drop("stopping")
        if self._connections:
            self._empty.clear()
            try:
                async with asyncio.timeout(self.limits.drain_seconds):
                    await self._empty.wait()
            except TimeoutError:
                _logger.warning("requests were left unanswered", extra={"connections": len(self._connections)})

    def close(self) -> None:
        """Close everything at once; the path only if it is ours."""
        self._stop_accepting()
        for connection in list(self._connections):
            connection.abort()
        self._bound.close()

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    def opened(self, connection: AesmConnection) -> None:
        """Admit a connection; over the cap, the one that has waited longest for its request makes room."""
        self._connections.add(connection)
        self._receiving[connection] = None
        self.metrics.accepted.inc()
        self.metrics.connections.set(len(self._connections))
        if len(self._connections) > self.limits.max_connections:
            oldest = next(iter(self._receiving))
            self.received(oldest)
            oldest.drop("shed")

    def received(self, connection: AesmConnection) -> None:
        """A connection's request is complete, or will never be."""
        self._receiving.pop(connection, None)

    def closed(self, connection: AesmConnection) -> None:
        """A connection is gone."""
        self._receiving.pop(connection, None)
        self._connections.discard(connection)
        self.metrics.connections.set(len(self._connections))
        if not self._connections:
            self._empty.set()

    def malformed(self, violation: ProtocolViolation) -> None:
        """Say at most once in a while what was wrong."""
        suppressed = self._malformed_log.admit()
        if suppressed is not None:
            _logger.warning("malformed request", extra={"error": str(violation.error), "suppressed": suppressed})


class _Stage(Enum):
    RECEIVING = auto()
    ANSWERING = auto()
    SENDING = auto()


class AesmConnection(asyncio.Protocol):
    """One client. Its one timer is looked at when it fires, not moved at each step, since most never fire."""

    def __init__(self, server: AesmServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._session = ServerSession()
        self._stage = _Stage.RECEIVING
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._stage_since = server.clock()
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(self._server.limits.first_byte_seconds, self._check_deadline)
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Feed the session; answer when the request is complete."""
        match self._session.receive(data):
            case RequestReceived(request):
                self._enter(_Stage.ANSWERING)
                self._server.received(self)
                answer = self._server.service.respond(request)
                if isinstance(answer, Coroutine):
                    # More bytes are of no interest, and a client that sends for ever must not cost anything.
                    self._transport.pause_reading()
                    self._answering = self._loop.create_task(self._answer_later(answer))
                else:
                    self._send(answer)
            case ProtocolViolation() as violation:
                self._server.malformed(violation)
                self.drop("malformed")

    def eof_received(self) -> None:
        """The client sends no more. While its answer is made nothing is read, so a half-close is not seen here."""
        match self._session.receive_eof():
            case ProtocolViolation() as violation:
                self._server.malformed(violation)
                self.drop("malformed")
            case PeerClosed():
                self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything about it."""
        del exc
        self._timer.cancel()
        if self._answering is not None:
            self._answering.cancel()
        self._server.closed(self)

    def drop(self, reason: str) -> None:
        """Close without an answer, and count it."""
        self._server.metrics.dropped(reason)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    async def _answer_later(self, answer: Coroutine[Any, Any, Response]) -> None:
        self._send(await answer)

    def _send(self, response: Response) -> None:
        self._server.metrics.answered(kind_of(response), response.error_code, self._server.clock() - self._stage_since)
        self._enter(_Stage.SENDING)
        self._transport.write(self._session.respond(response))
        self._transport.close()

    def _enter(self, stage: _Stage) -> None:
        self._stage = stage
        self._stage_since = self._server.clock()

    def _check_deadline(self) -> None:
        limits = self._server.limits
        match self._stage:
            case _Stage.RECEIVING if self._session.started:
                allowed = limits.whole_request_seconds
            case _Stage.RECEIVING:
                allowed = limits.first_byte_seconds
            case _Stage.ANSWERING:
                allowed = limits.answer_seconds + limits.write_seconds
            case _Stage.SENDING:
                allowed = limits.write_seconds
        left = self._stage_since + allowed - self._server.clock()
        if left <= 0:
            self.drop("timeout")
            return
        self._timer = self._loop.call_later(min(left, limits.first_byte_seconds), self._check_deadline)
