"""Probes and metrics over HTTP, GET only, answered by the daemon's own event loop.

In its own loop on purpose: a stuck loop then fails its liveness probe. Small on purpose: a web framework would cost a
node daemon 11 MiB. Routes are callables that return at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from confcom.daemon.unix_socket import BoundUnixSocket, bind_unix_socket
from confcom.errors import SettingsError, UnavailableError

_logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 8192
"""Request line and headers together; kubelet and Prometheus send under 1 KiB. 8 KiB is what common servers allow."""
DEADLINE_SECONDS = 5.0
"""For a whole exchange: the kubelet's own probe timeout is 1 s by default, Prometheus' scrape 10 s."""
MAX_CONNECTIONS = 32
"""A kubelet, a scraper and a person need three. Beyond it the oldest is closed, so idle peers cannot starve probes."""
BACKLOG = 128
"""Connections that the kernel holds while the loop is busy."""
PROBE_SOCKET_MODE = 0o660
"""A unix probe socket is for the owner's tools; unlike the AESM socket it is not for everyone."""

_PORT = re.compile(r"[0-9]{1,5}")

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """What a route answers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


Route = Callable[[], ProbeResponse]


class Readiness:
    """Whether the daemon can serve, and if not, why not. `/readyz` shows it."""

    def __init__(self, reason: str | None = "starting") -> None:
        self.reason = reason
        """None when ready."""

    @property
    def ready(self) -> bool:
        """Whether there is nothing in the way."""
        return self.reason is None

    def set_ready(self) -> None:
        """The daemon can serve."""
        self.reason = None

    def set_unready(self, reason: str) -> None:
        """The daemon cannot serve, for this reason."""
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProbeAddress:
    """Where probes are answered: `HOST:PORT` (`[HOST]:PORT` for IPv6, `:PORT` for all) or `unix:PATH`."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> ProbeAddress:
        """Read the text of a flag.

        Raises:
            ValueError: it is neither form; the reason is the message.
        """
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


def standard_routes(readiness: Readiness, registry: CollectorRegistry) -> dict[str, Route]:
    """`/livez`, `/readyz` and `/metrics`; a daemon adds its own beside them."""

    def live() -> ProbeResponse:
        return ProbeResponse(b"ok\n")

    def ready() -> ProbeResponse:
        if readiness.reason is None:
            return ProbeResponse(b"ok\n")
        return ProbeResponse(f"not ready: {readiness.reason}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)

    def metrics() -> ProbeResponse:
        return ProbeResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return {"/livez": live, "/readyz": ready, "/metrics": metrics}


class ProbeServer:
    """Answers GET requests for `routes`, one request per connection.

    Args:
        routes: path -> callable. A route that raises is answered 500 and logged; the daemon lives on.
        deadline: seconds for a whole exchange.
        max_connections: at most so many at once.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        deadline: float = DEADLINE_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.routes = routes
        self.deadline = deadline
        self.max_connections = max_connections
        self._server: asyncio.Server | None = None
        self._unix: BoundUnixSocket | None = None
        self._connections: dict[_Connection, None] = {}

    async def start(self, address: ProbeAddress) -> ProbeAddress:
        """Listen, and say where: with port 0, the port that the kernel chose.

        Raises:
            SettingsError: the host is no address of this machine.
            UnavailableError: the address is taken or not permitted.
        """
        loop = asyncio.get_running_loop()
        if address.path is not None:
            self._unix = bind_unix_socket(address.path, mode=PROBE_SOCKET_MODE, backlog=BACKLOG)
            self._server = await loop.create_unix_server(
                lambda: _Connection(self), sock=self._unix.socket, backlog=BACKLOG
            )
            return address
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self), address.host or None, address.port, backlog=BACKLOG
            )
        except socket.gaierror as error:
            raise SettingsError(
                f"probes cannot be answered at {address}",
                why=f"{address.host!r} is not an address: {error.strerror}",
                remedy="give --probe-address an address of this machine, such as 127.0.0.1:8080",
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"probes cannot be answered at {address}",
                why=error.strerror or str(error),
                remedy="give --probe-address another port, or end what listens there",
            ) from error
        return ProbeAddress(address.host, self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop answering and close what is open."""
        if self._unix is not None:
            # First, while the open socket still tells its path from a later one.
            self._unix.unlink()
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()

    def admit(self, connection: _Connection) -> None:
        """A connection was made; over the cap, the oldest goes."""
        self._connections[connection] = None
        if len(self._connections) > self.max_connections:
            next(iter(self._connections)).abort()

    def forget(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)

    def answer(self, head: bytes) -> tuple[ProbeResponse, str]:
        """Decide what one request head gets: the response, and an additional header line or ''."""
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
            return ProbeResponse(b"not an HTTP/1 request\n", HTTPStatus.BAD_REQUEST), ""
        method, target, _ = parts
        if method != "GET":
            return ProbeResponse(b"only GET is answered here\n", HTTPStatus.METHOD_NOT_ALLOWED), "Allow: GET\r\n"
        route = self.routes.get(target.partition("?")[0])
        if route is None:
            known = " ".join(sorted(self.routes))
            return ProbeResponse(f"not found; known: {known}\n".encode(), HTTPStatus.NOT_FOUND), ""
        try:
            return route(), ""
        except Exception:
            _logger.exception("a probe route failed", extra={"route": target})
            return ProbeResponse(b"the route failed; see the log\n", HTTPStatus.INTERNAL_SERVER_ERROR), ""


class _Connection(asyncio.Protocol):
    """One exchange: read a head, answer, close."""

    def __init__(self, server: ProbeServer) -> None:
        self._server = server
        self._received = bytearray()
        self._answered = False
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(self._server.deadline, self.abort)
        self._server.admit(self)

    def data_received(self, data: bytes) -> None:
        """Collect until the head is complete or too large."""
        if self._answered:
            return
        self._received += data
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if len(head) > MAX_REQUEST_BYTES:
            self._respond(ProbeResponse(b"the request is too large\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), "")
        elif end:
            self._respond(*self._server.answer(bytes(head)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        del exc
        self._deadline.cancel()
        self._server.forget(self)

    def abort(self) -> None:
        """Close at once, whatever state the exchange is in."""
        self._transport.abort()

    def _respond(self, response: ProbeResponse, header: str) -> None:
        self._answered = True
        self._received.clear()
        head = (
            f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
            f"Content-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\n"
            f"Cache-Control: no-store\r\n{header}Connection: close\r\n\r\n"
        )
        self._transport.write(head.encode("latin-1") + response.body)
        self._transport.close()
