"""The cluster's API for a process of the machine, which cannot reach the cluster's network; and a watch of all Pods."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx2

from e2e.beside import beside
from e2e.churn.ledger import Ledger
from e2e.cluster import Cluster
from e2e.waiting import until

REQUEST_SECONDS = 60.0
"""For one request, on a machine that is busy."""
WATCH_SECONDS = 3600
"""For which the API server is asked to keep a watch: longer than any case."""


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


@contextmanager
def watched(ledger: Ledger, cluster: Cluster) -> Iterator[None]:
    url = f"/api/v1/pods?watch=1&timeoutSeconds={WATCH_SECONDS}"
    with beside(cluster, "get", "--raw", url, output=subprocess.PIPE) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, ledger))
        reader.start()
        yield
    reader.join()


def _read(output: IO[bytes], ledger: Ledger) -> None:
    with output:
        for line in output:
            event = json.loads(line)
            ledger.tell(time.monotonic(), event["type"], event["object"])
    ledger.complain("the watch ended")
