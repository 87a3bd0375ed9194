"""The requests that the controller makes to the API server, by lightkube.

Objects are plain mappings, as the rest of the package reads them. All methods raise UnavailableError, or its subclass
that says more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from lightkube import ApiError, AsyncClient, KubeConfig, SingleConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.operators import not_equal, not_in
from lightkube.types import PatchType

from confcom.controller.api_server.paced_watches import PacedWatches
from confcom.controller.limits_and_deadlines import PAGE, QUIET_SECONDS, REQUEST_SECONDS
from confcom.controller.reconcile.reading import MANAGER
from confcom.errors import SettingsError, UnavailableError
from confcom.kubernetes.objects import TERMINAL, KubernetesObject

_NODE = create_global_resource("", "v1", "Node", "nodes")
_POD = create_namespaced_resource("", "v1", "Pod", "pods")
_EVENT = create_namespaced_resource("", "v1", "Event", "events")
_BOUND: dict[str, Any] = {"spec.nodeName": not_equal(""), "status.phase": not_in(sorted(TERMINAL))}
"""Pods that hold resources. In a watch, a Pod that ends counts as deleted."""

EVENT_NAMESPACE = "default"
"""Where Events of objects without a namespace are."""
GONE, CONFLICT, NOT_FOUND = 410, 409, 404


class ExpiredError(UnavailableError):
    """The version that a watch or a page began at is too old for the API server: everything has to be listed again."""

    error_code = "watch-expired"


class ConflictError(UnavailableError):
    """The object has changed since it was read, or does not exist any more."""

    error_code = "object-changed"


class RefusedError(UnavailableError):
    """The API server, or a policy, does not permit the request."""

    error_code = "api-server-refused"


class Feed:
    """All nodes, or all bound Pods that have not ended: the list, and changes from then on."""

    def __init__(self, client: AsyncClient, resource: Any, selection: Mapping[str, Any]) -> None:  # noqa: ANN401 # lightkube's classes
        self._client = client
        self._resource = resource
        self._selection = selection

    async def list(self, take: Callable[[KubernetesObject], None]) -> str:
        """Pass each object on, page by page; return the version that a watch has to begin at."""
        with _translated():
            found = self._client.list(self._resource, chunk_size=PAGE, **self._selection)
            async for one in found:
                take(one)
            return found.resourceVersion

    async def watch(self, version: str) -> AsyncIterator[tuple[str, KubernetesObject]]:
        """Yield each change after a version: ADDED, MODIFIED or DELETED, and the object. End after QUIET_SECONDS."""
        with _translated():
            stream: Any = self._client.watch(self._resource, resource_version=version, **self._selection)
            async with contextlib.aclosing(stream) as events:
                while True:
                    try:
                        async with asyncio.timeout(QUIET_SECONDS):
                            event = await anext(events)
                    except TimeoutError:
                        return
                    yield event


class ClusterApi:
    """The API server."""

    def __init__(self, client: AsyncClient) -> None:
        self._client: Any = client  # its overloads know lightkube's own classes only
        self.nodes = Feed(client, _NODE, {})
        self.pods = Feed(client, _POD, {"namespace": "*", "fields": _BOUND})

    async def read_node(self, name: str) -> KubernetesObject:
        """Return a node as it is now; ConflictError if there is none."""
        with _translated():
            node: KubernetesObject = await self._client.get(_NODE, name)
            return node

    async def read_pods(self, node: str) -> list[KubernetesObject]:
        """Return the bound Pods of a node as they are now."""
        with _translated():
            fields = _BOUND | {"spec.nodeName": node}
            return [pod async for pod in self._client.list(_POD, namespace="*", fields=fields, chunk_size=PAGE)]

    async def patch_node_status(self, name: str, patch: KubernetesObject) -> None:
        """Change a node's status by a merge patch; ConflictError if there is no such node."""
        with _translated():
            await self._client.patch(_NODE.Status, name, dict(patch), patch_type=PatchType.MERGE)

    async def post_event(self, event: KubernetesObject) -> None:
        """Create an Event."""
        with _translated():
            await self._client.create(_EVENT(**event), namespace=EVENT_NAMESPACE)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def connect(kubeconfig: Path | None, environ: Mapping[str, str] = os.environ) -> ClusterApi:
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
        return ClusterApi(_client(chosen))
    except (ConfigError, OSError, ValueError, LookupError, AssertionError) as error:
        raise SettingsError(
            "the controller does not find the API server",
            error_code="no-api-server",
            why=str(error) or type(error).__name__,
            remedy="run it in a Pod with its ServiceAccount, or give --kubeconfig a file",
        ) from error


def _client(config: SingleConfig) -> AsyncClient:
    """Return lightkube's client; its own transport would be the same one without the pauses."""
    # trust_env is off: the environment's proxies are for the outside, and not for the cluster's own traffic.
    verify = verify_cluster(config.cluster, config.user or User(), config.abs_file, trust_env=False)
    inner = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False)
    return AsyncClient(
        config,
        timeout=httpx2.Timeout(REQUEST_SECONDS),
        field_manager=MANAGER,
        trust_env=False,
        transport=PacedWatches(inner, clock=time.monotonic, jitter=random.random),
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Translate what lightkube and its HTTP library raise."""
    try:
        yield
    except ApiError as error:
        raise _api_error(error.status.code or 0, error.status.message or str(error)) from error
    except httpx2.HTTPStatusError as error:
        raise _api_error(error.response.status_code, str(error)) from error
    except (httpx2.HTTPError, httpx2.StreamError, OSError, ConfigError, msgspec.DecodeError) as error:
        raise UnavailableError(
            "the API server does not answer",
            error_code="api-server-unavailable",
            why=str(error) or type(error).__name__,
        ) from error


def _api_error(status: int, message: str) -> UnavailableError:
    what = f"the API server answered {status}"
    if status == GONE:
        return ExpiredError(what, why=message)
    if status in {CONFLICT, NOT_FOUND}:
        return ConflictError(what, why=message)
    if status < 500 and status != 429:
        return RefusedError(what, why=message)
    return UnavailableError(what, error_code="api-server-unavailable", why=message)
