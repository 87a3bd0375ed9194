"""The cluster's API for a process of the machine, which cannot reach the cluster's network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from e2e.beside import beside
from e2e.cluster import Cluster
from e2e.waiting import until

REQUEST_SECONDS = 60.0
"""For one request, on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """The API as somebody has it, behind the unix socket of kubectl's proxy."""

    socket: Path
    _clients: ExitStack = field(default_factory=ExitStack)

    def client(self) -> httpx2.Client:
        """An HTTP client, which is closed with the access; each thread needs one of its own."""
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        # The proxy refuses other hosts.
        made = httpx2.Client(transport=transport, base_url="http://localhost", timeout=REQUEST_SECONDS, trust_env=False)
        return self._clients.enter_context(made)

    def close(self) -> None:
        """Close all clients."""
        self._clients.close()


@contextmanager
def proxied(cluster: Cluster, folder: Path) -> Iterator[ApiAccess]:
    """Have kubectl's proxy, which knows how to sign in, on a socket in a folder that the cluster sees too."""
    access = ApiAccess(folder / "api.sock")
    try:
        with beside(cluster, "proxy", "--accept-paths=.*", "--reject-paths=^$", f"--unix-socket={access.socket}"):
            until(access.socket.exists, "kubectl's proxy listens")
            yield access
    finally:
        access.close()
        access.socket.unlink(missing_ok=True)
