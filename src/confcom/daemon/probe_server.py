"""An HTTP server for probes and metrics, GET only, in the daemon's own event loop.

It shares the daemon's event loop so that a stuck loop fails the liveness probe. It uses no web framework, which would
cost a node daemon 11 MiB. Clients together get a bounded share of the event loop and a bounded number of connections,
however many requests they send.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Final

from confcom.daemon.fair_queue import FairQueue
from confcom.daemon.logs import LogLimiter
from confcom.daemon.probes import ProbeAddress, ProbeResponse, Route, listen
from confcom.daemon.unix_socket import bind_unix_socket

_logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 8192
"""Request line and headers together. The kubelet and Prometheus send less than 1 KiB; common servers allow 8 KiB."""
DEADLINE_SECONDS: Final = 5.0
"""For a whole exchange. The default timeouts are 1 s for a kubelet's probe and 10 s for a Prometheus scrape."""
MAX_CONNECTIONS: Final = 32
"""A kubelet, a scraper and a person need three. Beyond the limit, the oldest connection of the address with the most
connections is closed, so that neither idle nor busy clients starve probes."""
BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted. Accepting a full backlog takes 0.7 s; the kubelet's probes
in the chart wait 2 s. Beyond the limit the kernel drops a client's first packet, and the client sends it again after a
second."""
SLICE_SECONDS: Final = 0.02
"""The interval of the next two limits."""
EXCHANGES_PER_SLICE: Final = 4
"""200 requests, or parts of one, per second, each about 0.1 ms: a fiftieth of the event loop. A kubelet, a scraper and
a person together send a few per second."""
ACCEPTS_PER_SLICE: Final = 32
"""1,600 connections per second, each about 50 µs if it is closed in favour of others: less than a tenth of the event
loop. More than EXCHANGES_PER_SLICE, so that a client at another address need not wait until all these are answered."""
ACCEPT_BATCH: Final = 16
"""Connections accepted in one turn of the event loop: about a millisecond."""
PROBE_SOCKET_MODE: Final = 0o660
"""A unix probe socket is for its owner's tools; unlike the AESM socket it is not open to everyone."""
FAILURE_LOG_SECONDS: Final = 60.0
"""Interval of log lines about failing routes, which any client can cause."""
_RECEIVE_BYTES: Final = 2 * MAX_REQUEST_BYTES
"""More than the largest head, so that one call also reads what follows it: closing a socket with unread data resets the
connection."""

_END_OF_HEAD: Final = b"\r\n\r\n"


class ProbeServer:
    """An HTTP server that answers GET requests for `routes`, one request per connection.

    Connections are served round robin between client addresses. If a route raises, the response is 500, the error is
    logged, and the daemon continues.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        deadline: float = DEADLINE_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.routes = routes
        self.deadline = deadline
        self.max_connections = max_connections
        self._failures = LogLimiter(FAILURE_LOG_SECONDS, clock)
        self._loop: asyncio.AbstractEventLoop
        self._listeners: list[socket.socket] = []
        self._unlink: Callable[[], object] = lambda: None
        self._accepting = False
        self._connections: dict[str, dict[_Connection, None]] = {}
        self._queue: FairQueue[_Connection] = FairQueue()
        self._slice_timer: asyncio.TimerHandle | None = None
        self._accepts_left = ACCEPTS_PER_SLICE
        self._exchanges_left = EXCHANGES_PER_SLICE

    async def start(self, address: ProbeAddress) -> ProbeAddress:
        """Listen, and return the address: for port 0, with the port that the kernel chose.

        Raises:
            SettingsError: the host is no address of this machine.
            UnavailableError: the address is in use or not permitted.
        """
        self._loop = asyncio.get_running_loop()
        if address.path is not None:
            bound = bind_unix_socket(address.path, mode=PROBE_SOCKET_MODE, backlog=BACKLOG)
            self._unlink = bound.unlink
            self._listeners = [bound.socket]
        else:
            self._listeners = await listen(address, backlog=BACKLOG)
            address = ProbeAddress(address.host, self._listeners[0].getsockname()[1])
        self._set_accepting(on=True)
        return address

    async def close(self) -> None:
        """Stop listening and close all connections."""
        # First: the path can be told from a later socket's only while this socket is open.
        self._unlink()
        self._set_accepting(on=False)
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        for connection in list(self._all_connections()):
            connection.end()
        if self._slice_timer is not None:
            self._slice_timer.cancel()

    def answer(self, head: bytes) -> tuple[ProbeResponse, str]:
        """Return the response to one request head, and an additional header line or ''."""
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
            return ProbeResponse(b"not an HTTP/1 request\n", HTTPStatus.BAD_REQUEST), ""
        method, target, _ = parts
        if method != "GET":
            return ProbeResponse(b"only GET is answered here\n", HTTPStatus.METHOD_NOT_ALLOWED), "Allow: GET\r\n"
        path = target.partition("?")[0]
        route = self.routes.get(path)
        if route is None:
            known = " ".join(sorted(self.routes))
            return ProbeResponse(f"not found; known: {known}\n".encode(), HTTPStatus.NOT_FOUND), ""
        try:
            return route(), ""
        except Exception:
            suppressed = self._failures.admit()
            if suppressed is not None:
                _logger.exception("a probe route failed", extra={"route": path, "suppressed": suppressed})
            return ProbeResponse(b"the route failed; see the log\n", HTTPStatus.INTERNAL_SERVER_ERROR), ""

    def requeue(self, connection: _Connection) -> None:
        """Queue a connection again, because its request is not complete."""
        self._queue.put(connection.source, connection)
        self._schedule_slice()

    def remove(self, connection: _Connection) -> None:
        """Remove a connection that has ended."""
        self._queue.discard(connection.source, connection)
        held = self._connections[connection.source]
        del held[connection]
        if not held:
            del self._connections[connection.source]

    def _set_accepting(self, *, on: bool) -> None:
        if self._accepting is on:
            return
        self._accepting = on
        for listener in self._listeners:
            if on:
                self._loop.add_reader(listener.fileno(), self._accept_from, listener)
            else:
                self._loop.remove_reader(listener.fileno())

    def _accept_from(self, listener: socket.socket) -> None:
        for _ in range(min(ACCEPT_BATCH, self._accepts_left)):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError:
                # No descriptor or no memory is left, or the client has disconnected: try again in the next slice.
                self._accepts_left = 0
                break
            self._accepts_left -= 1
            self._admit(sock, address[0] if address else "")
        self._serve()
        if not self._accepts_left:
            self._set_accepting(on=False)
        self._schedule_slice()

    def _schedule_slice(self) -> None:
        if self._slice_timer is None:
            self._slice_timer = self._loop.call_later(SLICE_SECONDS, self._begin_slice)

    def _begin_slice(self) -> None:
        idle = self._accepts_left == ACCEPTS_PER_SLICE and self._exchanges_left == EXCHANGES_PER_SLICE
        self._accepts_left, self._exchanges_left = ACCEPTS_PER_SLICE, EXCHANGES_PER_SLICE
        self._set_accepting(on=True)
        self._serve()
        self._slice_timer = None
        if self._queue or not idle:
            self._schedule_slice()

    def _admit(self, sock: socket.socket, source: str) -> None:
        sock.setblocking(False)
        if sum(map(len, self._connections.values())) >= self.max_connections:
            most = max(self._connections.values(), key=len)
            next(iter(most)).end()
        connection = _Connection(self, sock, source)
        self._connections.setdefault(source, {})[connection] = None
        self._queue.put(source, connection)

    def _serve(self) -> None:
        while self._exchanges_left and (connection := self._queue.take()) is not None:
            self._exchanges_left -= 1
            connection.start()

    def _all_connections(self) -> Iterator[_Connection]:
        for held in self._connections.values():
            yield from held


class _Connection:
    """One exchange: read a head, respond, close."""

    __slots__ = ("_deadline", "_loop", "_received", "_server", "_sock", "_unsent", "source")

    def __init__(self, server: ProbeServer, sock: socket.socket, source: str) -> None:
        self.source = source
        self._server = server
        self._sock = sock
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(server.deadline, self.end)

    def start(self) -> None:
        """Read what has arrived, or wait for it; called in this connection's turn."""
        self._loop.add_reader(self._sock.fileno(), self._receive)
        self._receive()

    def end(self) -> None:
        self._deadline.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._server.remove(self)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        searched = max(0, len(self._received) - len(_END_OF_HEAD) + 1)
        self._received += data
        end = self._received.find(_END_OF_HEAD, searched)
        if (len(self._received) if end < 0 else end) > MAX_REQUEST_BYTES:
            self._respond(ProbeResponse(b"the request is too large\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), "")
        elif end >= 0:
            self._respond(*self._server.answer(bytes(self._received[:end])))
        else:
            # The rest is read in a later turn, so that a client that sends single bytes gets no more than its share.
            self._loop.remove_reader(self._sock.fileno())
            self._server.requeue(self)

    def _respond(self, response: ProbeResponse, header: str) -> None:
        head = (
            f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
            f"Content-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\n"
            f"Cache-Control: no-store\r\n{header}Connection: close\r\n\r\n"
        )
        self._unsent = memoryview(head.encode("latin-1") + response.body)
        self._loop.remove_reader(self._sock.fileno())
        self._loop.add_writer(self._sock.fileno(), self._send)
        self._send()

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self.end()
