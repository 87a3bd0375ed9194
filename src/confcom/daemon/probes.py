"""A daemon's probes: addresses, and the standard routes, which are callables that return at once."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from confcom import passed_descriptors
from confcom.errors import SettingsError, UnavailableError

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
        """Parse the value of a flag; raise ValueError with the reason if the text has neither form."""
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
    """Listen at a host's first address, at all addresses of this machine if the host is empty, or at a path.

    A socket at the path is replaced, since an earlier instance may have left it.

    Raises:
        SettingsError: the host is no address of this machine.
        UnavailableError: the address is in use or not permitted.
    """
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
    if path.is_socket():
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
    not_ready_reason: Callable[[], str | None], registry: CollectorRegistry, *, note: str = ""
) -> dict[str, Route]:
    """Return the routes `/livez`, `/readyz` and `/metrics`, to which a daemon adds its own.

    `note` is a further line in the answer of `/readyz` while the daemon is ready.
    """

    def ready() -> ProbeResponse:
        if (reason := not_ready_reason()) is None:
            return ready_page
        return ProbeResponse(f"not ready: {reason}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)

    def metrics() -> ProbeResponse:
        return ProbeResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    live = ProbeResponse(b"ok\n")
    ready_page = ProbeResponse(f"ok\n{note}\n".encode() if note else b"ok\n")
    return {"/livez": lambda: live, "/readyz": ready, "/metrics": metrics}
