"""The requests that the controller makes to the API server.

Objects are plain mappings, as the rest of the package reads them. All methods raise UnavailableError, or its subclass
that says more. lightkube finds the API server and logs in; what it has for requests reads answers of any size.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from lightkube import KubeConfig, SingleConfig
from lightkube.config import client_adapter
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from confcom.controller.api_server.connection import MERGE_PATCH, Connection
from confcom.controller.api_server.decoding import Kind, node_kind, pod_kind
from confcom.controller.api_server.errors import TooLargeError
from confcom.controller.api_server.paced_watches import PacedWatches
from confcom.controller.limits_and_deadlines import ANSWER_BYTES, PAGE, REQUEST_SECONDS
from confcom.controller.reconcile.reading import MANAGER
from confcom.errors import SettingsError
from confcom.kubernetes.objects import TERMINAL, KubernetesObject

NODES, PODS = "api/v1/nodes", "api/v1/pods"
NOT_ENDED = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL))
"""Selects Pods that hold resources, if they are bound. In a watch, a Pod that ends counts as deleted."""
EVENT_NAMESPACE = "default"
"""Where Events of objects without a namespace are."""


class Feed:
    """Objects of one kind that a selector chooses: the list, and changes from then on."""

    def __init__(self, connection: Connection, path: str, kind: Kind, selector: str = "") -> None:
        self._connection = connection
        self._path = path
        self._kind = kind
        self._query = {"fieldSelector": selector} if selector else {}

    async def list(self, take: Callable[[KubernetesObject], None]) -> str:
        """Pass each object on, page by page; return the version that a watch has to begin at.

        Where objects are so large that a page cannot be read, pages get smaller.
        """
        limit, query = PAGE, dict(self._query)
        read = partial(self._kind.page, take=take)
        while True:
            try:
                page = await self._connection.get(self._path, read, query | {"limit": str(limit)})
            except TooLargeError:
                if limit == 1:
                    raise
                limit //= 2
                continue
            if not page.token:
                return page.version
            query["continue"] = page.token
            if page.size <= ANSWER_BYTES // 2:
                limit = min(2 * limit, PAGE)

    async def watch(self, version: str) -> AsyncIterator[tuple[str, KubernetesObject]]:
        """Yield each change after a version: ADDED, MODIFIED or DELETED, and the object.

        End when the API server ends the watch, or was quiet for long.
        """
        query = self._query | {"watch": "true", "resourceVersion": version}
        async with contextlib.aclosing(self._connection.lines(self._path, query)) as lines:
            async for line in lines:
                yield self._kind.event(line)


class ClusterApi:
    """The API server.

    Args:
        client: knows its address, and how to log in.
        resources: the names of EPC; of other amounts nothing is read.
    """

    def __init__(self, client: httpx2.AsyncClient, resources: Sequence[str]) -> None:
        self._connection = Connection(client)
        self._node, self._pod = node_kind(resources), pod_kind(resources)
        self.nodes = Feed(self._connection, NODES, self._node)
        self.pods = self._bound_pods("!=")

    async def read_node(self, name: str) -> KubernetesObject:
        """Return a node as it is now; ConflictError if there is none."""
        return await self._connection.get(f"{NODES}/{name}", self._node.one)

    async def read_pods(self, node: str, take: Callable[[KubernetesObject], None]) -> None:
        """Pass on the bound Pods of a node as they are now."""
        await self._bound_pods(f"={node}").list(take)

    async def patch_node_status(self, name: str, patch: KubernetesObject) -> None:
        """Change a node's status by a merge patch; ConflictError if there is no such node."""
        await self._connection.send("PATCH", f"{NODES}/{name}/status", patch, MERGE_PATCH, fieldManager=MANAGER)

    async def post_event(self, event: KubernetesObject) -> None:
        """Create an Event."""
        path = f"api/v1/namespaces/{EVENT_NAMESPACE}/events"
        await self._connection.send("POST", path, event, fieldManager=MANAGER)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    def _bound_pods(self, node: str) -> Feed:
        return Feed(self._connection, PODS, self._pod, f"spec.nodeName{node},{NOT_ENDED}")


def connect(kubeconfig: Path | None, resources: Sequence[str], environ: Mapping[str, str] = os.environ) -> ClusterApi:
    """Return the API server of a kubeconfig file, or of the cluster that this Pod runs in.

    Raises:
        SettingsError: there is no such file, or this is no Pod with a ServiceAccount's token.
    """
    try:
        if kubeconfig is not None:
            config = KubeConfig.from_file(kubeconfig)
        elif not environ.get("KUBERNETES_SERVICE_HOST"):
            raise ConfigError("the variable KUBERNETES_SERVICE_HOST is not set")
        else:
            config = KubeConfig.from_service_account()
        if (chosen := config.get()) is None:
            raise ConfigError("it names no current context")
        return ClusterApi(client_of(chosen), resources)
    except (ConfigError, OSError, ValueError, LookupError, AssertionError) as error:
        raise SettingsError(
            "the controller does not find the API server",
            error_code="no-api-server",
            why=str(error) or type(error).__name__,
            remedy="run it in a Pod with its ServiceAccount, or give --kubeconfig a file",
        ) from error


def client_of(config: SingleConfig, transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """Return an HTTP client that knows the API server's address, and how to log in.

    Args:
        config: of a kubeconfig file, or of a Pod.
        transport: None for one that makes connections, and pauses between watches.
    """
    # trust_env is off: the environment's proxies are for the outside, and not for the cluster's own traffic.
    if transport is None:
        verify = client_adapter.verify_cluster(config.cluster, config.user or User(), config.abs_file, trust_env=False)
        inner = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False)
        transport = PacedWatches(inner, clock=time.monotonic, jitter=random.random)
    chosen: Any = transport  # lightkube's annotation is that of a client without asyncio
    parameters = client_adapter.ConnectionParams(httpx2.Timeout(REQUEST_SECONDS), trust_env=False, transport=chosen)
    return client_adapter.AsyncClient(config, parameters)
