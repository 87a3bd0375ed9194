"""An HTTP server for probes and metrics, GET only, in the daemon's own event loop; its address and standard routes.

The server shares the daemon's event loop, so a stuck loop fails the liveness probe. The server uses no web
framework, which would cost a node daemon 11 MiB.

A request that has arrived with its connection is answered at once, and the connection is closed. So probes queue
only in the kernel, where clients cannot displace each other. A connection is held only while its request is
incomplete or its page is too large to send yet. If too many connections are held, one is closed: a connection of the
address that recently held most. A held connection is served once per slice of time, so small pieces cost no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from confcom import passed_descriptors
from confcom.daemon.connected_socket import unread_bytes
from confcom.daemon.logs import LogLimiter
from confcom.daemon.readiness_log import NotReady
from confcom.daemon.socket_path import FileIdentity
from confcom.errors import SettingsError, UnavailableError

_logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 8192
"""Limit of request line plus headers in bytes. A kubelet and Prometheus send under 1 KiB; servers allow 8 KiB."""
DEADLINE_SECONDS: Final = 5.0
"""Time limit of each held connection. A kubelet's probe waits 1 s by default, and a scrape 10 s."""
MAX_HELD: Final = 32
"""Maximum number of held connections. A scraper and a person need two; probes need none. If all are pages of
0.2 MB that nobody reads, the kernel holds 6 MB."""
MAX_ADDRESSES: Final = 4096
"""Maximum number of addresses whose use is counted (about 0.5 MB); beyond it, all counts restart at 0."""
RECENT_SECONDS: Final = 60.0
"""Seconds for which held connections are counted per address: the time of four Prometheus scrapes."""
SLICE_SECONDS: Final = 0.02
"""Period of ACCEPTS_PER_SLICE and LARGE_BYTES_PER_SLICE, and interval between checks of held connections."""
ACCEPTS_PER_SLICE: Final = 128
"""6,400 connections per second, each about 50 µs: a third of the event loop. A kubelet, a scraper and a
person together make a few per second."""
LARGE_BYTES_PER_SLICE: Final = 256 * 1024
"""12.8 MB/s of pages larger than SMALL_BYTES, which take about 0.5 µs per KiB."""
SMALL_BYTES: Final = 1024
"""A page of this size is sent at any time: it fits into the receive buffer of every client, so the kernel
holds nothing of it for those that do not read. Probes have 150 bytes."""
RENDERING_SECONDS: Final = 1.0
"""Time for which all clients get the same rendering of a larger page; for a small page it is SLICE_SECONDS. Rendering
metrics blocks the event loop for some milliseconds, which clients could otherwise cause in quick succession."""
ACCEPT_BATCH: Final = 16
"""Maximum number of connections accepted in one turn of the event loop; a turn takes about a millisecond."""
FAILURE_LOG_SECONDS: Final = 60.0
"""Interval of log lines about failing routes, since any client can cause such lines."""
_RECEIVE_BYTES: Final = 2 * MAX_REQUEST_BYTES
"""More than the largest head, so that one call also reads the bytes after it: closing a socket with unread
data resets the connection."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)
"""struct linger: drop unsent data at close."""
BACKLOG: Final = 4096
"""Connections that the kernel holds until they are accepted; Linux' default of net.core.somaxconn, to which
the kernel limits it. Accepting all takes 0.64 s. Beyond the limit the kernel drops a client's first packet,
and the client sends it again after a second; the chart's probes wait 2 s."""
DEFER_SECONDS: Final = 1
"""Seconds for which the kernel hides a connection without data from accept(), so that one read is enough."""
UNACKNOWLEDGED_MILLISECONDS: Final = 2000
"""Time after which the kernel drops an answer that a client's system does not acknowledge."""
PROBE_SOCKET_MODE: Final = 0o660
"""Mode of a unix probe socket, which is for its owner's tools and, unlike the AESM socket, not for everyone."""
_PORT = re.compile(r"[0-9]{1,5}")

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


Route = Callable[[], ProbeResponse]


@dataclass(frozen=True, slots=True)
class ProbeAddress:
    """The address of a probe server: `HOST:PORT` (`[HOST]:PORT` for IPv6, `:PORT` for all) or `unix:PATH`."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> ProbeAddress:
        """Parse the value of a flag; raise ValueError with the reason if the text is no address."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError("unix: needs a path, as in unix:/run/confcom/probe.sock")
            return cls(path=Path(path))
        host, colon, port = text.rpartition(":")
        if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError(f"it must be HOST:PORT or unix:PATH, not {text!r}")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"an IPv6 address needs brackets, as in [::1]:8080, not {text!r}")
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: ProbeAddress) -> socket.socket:
    """Listen at a host's first address, at all of this machine's if the host is empty, or at a path."""
    try:
        listener = _bind_path(address.path) if address.path else _bind_port(address)
    except socket.gaierror as error:
        raise SettingsError(
            f"the probe server cannot listen at {address}",
            error_code="probe-host-unknown",
            why=f"{address.host!r} is not an address: {error.strerror}",
            remedy="give --probe-address an address of this machine, such as 127.0.0.1:8080",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"the probe server cannot listen at {address}",
            error_code="probe-address-not-available",
            why=os.strerror(error.errno) if error.errno else str(error),
            remedy="give --probe-address another port or path, or end what listens there",
        ) from error
    listener.setblocking(False)
    return listener


def _bind_port(address: ProbeAddress) -> socket.socket:
    if address.host:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=BACKLOG)
    else:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        listener = socket.create_server(("", address.port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
    # Accepted sockets inherit this option.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
    return listener


def _bind_path(path: Path) -> socket.socket:
    if path.is_socket():  # an earlier instance may have left it
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        passed_descriptors.refuse(listener)
        listener.bind(os.fspath(path))
        path.chmod(PROBE_SOCKET_MODE)
        listener.listen(BACKLOG)  # from here on, clients can connect
    except OSError:
        listener.close()
        raise
    return listener


def standard_routes(
    not_ready: Callable[[], NotReady | None], registry: CollectorRegistry, *, note: str = ""
) -> dict[str, Route]:
    """Return the routes `/livez`, `/readyz` and `/metrics`, to which a daemon adds its own.

    `note` is a further line in the answer of `/readyz` while the daemon is ready.
    """

    def ready() -> ProbeResponse:
        if (problem := not_ready()) is None:
            return ready_page
        return ProbeResponse(f"not ready: {problem.reason}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)

    def metrics() -> ProbeResponse:
        return ProbeResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    live = ProbeResponse(b"ok\n")
    ready_page = ProbeResponse(f"ok\n{note}\n".encode() if note else b"ok\n")
    return {"/livez": lambda: live, "/readyz": ready, "/metrics": metrics}


@contextlib.contextmanager
def serve_probes(routes: Mapping[str, Route], address: ProbeAddress | None) -> Iterator[ProbeAddress | None]:
    """Answer probes in the running event loop during the block; yield the address with the actual port."""
    if address is None:
        yield None
        return
    listener = listen(address)
    if address.path is None:
        address = ProbeAddress(address.host, listener.getsockname()[1])
    bound = FileIdentity.of(address.path) if address.path else None
    server = ProbeServer(routes, listener)
    _logger.info("answering probes on %s", address, extra={"address": address})
    try:
        yield address
    finally:
        # Compare while the socket is open: later, another instance's socket can get the same inode number.
        if address.path and FileIdentity.of(address.path) == bound:
            address.path.unlink(missing_ok=True)
        server.close()


class ProbeServer:
    """An HTTP server that answers GET requests for `routes` on a listening socket, one request per connection.

    If a route raises an exception, the response is 500, the exception is logged, and the daemon continues.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        listener: socket.socket,
        max_held: int = MAX_HELD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._listener = listener
        self._max_held = max_held
        self._clock = clock
        self._failures = LogLimiter(FAILURE_LOG_SECONDS, clock)
        self._loop = asyncio.get_running_loop()
        self._pages: dict[str, tuple[bytes, float]] = {}
        """The last rendering of each path's page, and the time until which this rendering is used."""
        self._held: dict[_Connection, float] = {}
        """The deadline of each held connection, in the order in which the connections were held."""
        self._uses: Counter[str] = Counter()
        """Number of connections of each address that were held since `_counted_since`."""
        self._counted_since = clock()
        self._slice_timer: asyncio.TimerHandle | None = None
        self._accepts_left = ACCEPTS_PER_SLICE
        self._bytes_left = LARGE_BYTES_PER_SLICE
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in self._held:
            connection.abort()
        self._held.clear()
        if self._slice_timer is not None:
            self._slice_timer.cancel()

    def answer(self, head: bytes) -> bytes:
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        path = rest.rpartition(" ")[0].partition("?")[0]
        if method != "GET" or path not in self._routes:
            known = " ".join(sorted(self._routes))
            return _encode(ProbeResponse(f"not found; known: GET {known}\n".encode(), HTTPStatus.NOT_FOUND))
        page, until = self._pages.get(path, (b"", 0.0))
        if not page or self._clock() >= until:
            page = _encode(self._call(path))
            used = RENDERING_SECONDS if len(page) > SMALL_BYTES else SLICE_SECONDS
            self._pages[path] = page, self._clock() + used
        return page

    def spend(self, size: int) -> bool:
        """Return whether a large page may be sent in this slice; a slice's first page may have any size."""
        if self._bytes_left <= 0:
            return False
        self._bytes_left -= size
        return True

    def _call(self, path: str) -> ProbeResponse:
        try:
            return self._routes[path]()
        except Exception:
            if (suppressed := self._failures.admit()) is not None:
                _logger.exception("a probe route failed", extra={"route": path, "suppressed": suppressed})
            return ProbeResponse(b"the route failed; see the log\n", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _accept(self) -> None:
        for _ in range(min(ACCEPT_BATCH, self._accepts_left)):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                break
            except OSError:
                # Try again in the next slice: no descriptor or memory is left, or the client has disconnected.
                self._accepts_left = 0
                break
            self._accepts_left -= 1
            sock.setblocking(False)
            connection = _Connection(self, sock, address[0] if address else "")
            if not connection.advance():
                self._hold(connection)
        if not self._accepts_left:
            self._loop.remove_reader(self._listener.fileno())
        if self._slice_timer is None:
            self._slice_timer = self._loop.call_later(SLICE_SECONDS, self._begin_slice)

    def _hold(self, connection: _Connection) -> None:
        if len(self._uses) >= MAX_ADDRESSES:
            self._uses.clear()
        self._uses[connection.address] += 1
        self._held[connection] = self._clock() + DEADLINE_SECONDS
        if len(self._held) > self._max_held:
            self._drop(max(self._held, key=self._use))

    def _use(self, connection: _Connection) -> int:
        return self._uses[connection.address]

    def _drop(self, connection: _Connection) -> None:
        del self._held[connection]
        connection.abort()

    def _begin_slice(self) -> None:
        now = self._clock()
        idle = self._accepts_left == ACCEPTS_PER_SLICE and not self._held
        self._accepts_left, self._bytes_left = ACCEPTS_PER_SLICE, LARGE_BYTES_PER_SLICE
        if now - self._counted_since >= RECENT_SECONDS:
            self._uses.clear()
            self._counted_since = now
        for connection in [connection for connection, deadline in self._held.items() if deadline <= now]:
            self._drop(connection)
        for connection in sorted(self._held, key=self._use):
            if connection.advance():
                del self._held[connection]
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._slice_timer = None if idle else self._loop.call_later(SLICE_SECONDS, self._begin_slice)


@dataclass(slots=True, eq=False)
class _Connection:
    _server: ProbeServer
    _sock: socket.socket
    address: str
    _received: bytes = b""
    _unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    _sending: bool = False

    def advance(self) -> bool:
        """Read and send as far as possible without waiting; return whether the exchange has ended."""
        try:
            ended = bool(self._unsent or self._sending or self._receive()) and self._send()
        except BlockingIOError:
            return False
        except OSError:
            ended = True
        if ended:
            self._sock.close()
        return ended

    def abort(self) -> None:
        """Close the connection at once; the kernel drops bytes that the client has not acknowledged."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def _receive(self) -> bool:
        """Return whether the request is complete and its page ready; raise OSError if no page will follow."""
        data = self._sock.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionAbortedError
        self._received += data
        end = self._received.find(_END_OF_HEAD)
        if (len(self._received) if end < 0 else end) > MAX_REQUEST_BYTES:
            raise ConnectionAbortedError
        if end >= 0:
            self._unsent = memoryview(self._server.answer(self._received[:end]))
        return bool(self._unsent)

    def _send(self) -> bool:
        """Return whether a small page was sent, or a large page was received completely by the client's system."""
        if not self._sending and len(self._unsent) > SMALL_BYTES:
            if not self._server.spend(len(self._unsent)):
                return False
            self._sending = True
        if self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        return not self._unsent and not (self._sending and unread_bytes(self._sock))


def _encode(response: ProbeResponse) -> bytes:
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + response.body
