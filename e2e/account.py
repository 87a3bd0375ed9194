"""The API as a ServiceAccount of the cluster has it, by a token of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from e2e.beside import beside
from e2e.cluster import Cluster
from e2e.waiting import until

VALID = "1h"
"""For how long a token is: for all that is tried with it."""
REQUEST_SECONDS = 60.0


@contextmanager
def api_as(cluster: Cluster, account: str, namespace: str, folder: Path) -> Iterator[httpx2.Client]:
    """Have a client whose requests are the account's, through `kubectl proxy`.

    Args:
        cluster: where.
        account: its name.
        namespace: its namespace.
        folder: for its kubeconfig and the proxy's socket.
    """
    token = cluster.kubectl("create", "token", account, f"--namespace={namespace}", f"--duration={VALID}").stdout
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "--output=json").stdout)
    # The administrator's certificate would win over a token.
    config["users"][0]["user"] = {"token": token.strip()}
    kubeconfig, socket = folder / "account.json", folder / "proxy.sock"
    kubeconfig.write_text(json.dumps(config))
    paths = "--accept-paths=.*", "--reject-paths=^$", f"--unix-socket={socket}"
    with beside(cluster, f"--kubeconfig={kubeconfig}", "proxy", *paths):
        until(socket.exists, "kubectl proxy serves")
        transport = httpx2.HTTPTransport(uds=str(socket))
        with httpx2.Client(base_url="http://localhost", transport=transport, timeout=REQUEST_SECONDS) as client:
            yield client
