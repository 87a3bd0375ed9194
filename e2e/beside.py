"""kubectl as a process that runs beside a case, and ends with it; also as a proxy to the cluster's API."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx2

from e2e.cluster import Cluster
from e2e.processes import end
from e2e.waiting import until

END_SECONDS = 10.0
"""From SIGTERM to its end."""
REQUEST_SECONDS = 60.0
"""For one request, on a machine that is busy."""


@contextmanager
def beside(
    cluster: Cluster, *arguments: str, output: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run kubectl as the administrator, unless the arguments name somebody else.

    It enters the cluster's network only: so it is our child, and gets our signals.
    """
    command = ["nsenter", f"--target={cluster.pid}", "--net", "--", str(cluster.plan.tools.path("kubectl")), *arguments]
    environment = {**os.environ, **cluster.environment}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output)
    try:
        yield process
    finally:
        end(process, END_SECONDS)


@contextmanager
def proxied(cluster: Cluster, folder: Path) -> Iterator[Callable[[], httpx2.Client]]:
    """Have kubectl's proxy, which knows how to sign in, on a socket; each thread needs a client of its own."""
    socket = folder / "api.sock"

    def client() -> httpx2.Client:
        transport = httpx2.HTTPTransport(uds=str(socket))
        # The proxy refuses other hosts.
        made = httpx2.Client(transport=transport, base_url="http://localhost", timeout=REQUEST_SECONDS, trust_env=False)
        return clients.enter_context(made)

    with (
        beside(cluster, "proxy", "--accept-paths=.*", "--reject-paths=^$", f"--unix-socket={socket}"),
        ExitStack() as clients,
    ):
        until(socket.exists, "kubectl's proxy listens")
        yield client
