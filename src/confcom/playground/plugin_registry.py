"""Which device plugins the kubelet knows, by the rules of one version: here the versions differ, and only here.

Both keep two books (pkg/kubelet/cm/devicemanager). The *clients* decide what the end of a stream disconnects
(plugin/v1beta1/handler.go), the *endpoints* who is asked to allocate and when a resource is lost (manager.go).

Nothing here does I/O: the device manager tells a registry what happened, and does what it answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from confcom.playground.plugin_client import PluginClient


class KubeletRules(StrEnum):
    """Whose rules towards device plugins the stand-in keeps; the value is the Kubernetes version to name them by."""

    UP_TO_1_36 = "1.36"
    """One client for a resource name."""
    FROM_1_37 = "1.37"
    """One client for a socket path (as in 1.37.2)."""

    def new_registry(self) -> PluginRegistry:
        """A registry that knows nobody, as a kubelet begins with."""
        return _ByResource() if self is KubeletRules.UP_TO_1_36 else _BySocket()


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What the end of one stream means."""

    disconnect: PluginClient | None = None
    """Whose connection is closed: not always the one whose stream ended, and nobody's if the end goes unnoticed."""
    resource_lost: bool = False
    """Whether every device of the resource becomes unhealthy."""


class PluginRegistry(Protocol):
    """The two books. A registration is `dialling`, then `failed` or `connected`; a stream's end is `ended`."""

    def dialling(self, client: PluginClient) -> None:
        """A registration has come; the plugin is about to be dialled."""

    def failed(self, client: PluginClient) -> None:
        """The registration came to nothing."""

    def connected(self, client: PluginClient) -> str:
        """The plugin answered; returns why it is refused all the same, or nothing."""

    def ended(self, client: PluginClient) -> StreamEnd:
        """The stream of a registered client has ended."""

    def endpoint(self, resource: str) -> PluginClient | None:
        """Who is asked to allocate."""

    def resources(self) -> Iterable[str]:
        """Names with a client."""

    def clients(self) -> set[PluginClient]:
        """Everyone in either book."""


class _ByResource:
    """Up to 1.36: the end of any stream for a name disconnects whichever client has that name by then.

    A registration that fails takes the name's client out as well: the plugin that had registered before goes on, and
    the end of its stream goes unnoticed.
    """

    def __init__(self) -> None:
        self._clients: dict[str, PluginClient] = {}
        self._endpoints: dict[str, PluginClient] = {}

    def dialling(self, client: PluginClient) -> None:
        self._clients[client.resource] = client

    def failed(self, client: PluginClient) -> None:
        self._clients.pop(client.resource, None)

    def connected(self, client: PluginClient) -> str:
        self._endpoints[client.resource] = client
        return ""

    def ended(self, client: PluginClient) -> StreamEnd:
        current = self._clients.pop(client.resource, None)
        if current is None:
            return StreamEnd()
        self._endpoints.pop(client.resource, None)
        return StreamEnd(current, resource_lost=True)

    def endpoint(self, resource: str) -> PluginClient | None:
        return self._endpoints.get(resource)

    def resources(self) -> Iterable[str]:
        return self._clients

    def clients(self) -> set[PluginClient]:
        return {*self._clients.values(), *self._endpoints.values()}


class _BySocket:
    """From 1.37: the end of a stream disconnects the client of that socket path, and no other.

    The resource is lost with its last endpoint. Until then the devices stay as the latest list had them, whoever sent
    it, and one of the remaining endpoints is asked to allocate: any one in the kubelet, the oldest here.

    A path that has an endpoint is refused: "device plugin already connected". Like any registration that fails, that
    takes out every client of the path, the working one too: the end of its stream goes unnoticed from then on, its
    endpoint stays, and the path is refused until the kubelet restarts.
    """

    def __init__(self) -> None:
        self._clients: dict[str, list[PluginClient]] = {}
        self._endpoints: dict[str, dict[str, PluginClient]] = {}
        """By resource name and socket path."""
        self._primary: dict[str, PluginClient] = {}

    def dialling(self, client: PluginClient) -> None:
        self._clients.setdefault(client.resource, []).append(client)

    def failed(self, client: PluginClient) -> None:
        others = [one for one in self._clients.get(client.resource, ()) if one.socket != client.socket]
        if others:
            self._clients[client.resource] = others
        else:
            self._clients.pop(client.resource, None)

    def connected(self, client: PluginClient) -> str:
        endpoints = self._endpoints.setdefault(client.resource, {})
        if str(client.socket) in endpoints:
            return f"device plugin already connected: {client.socket}"
        endpoints[str(client.socket)] = self._primary[client.resource] = client
        return ""

    def ended(self, client: PluginClient) -> StreamEnd:
        of_path = [one for one in self._clients.get(client.resource, ()) if one.socket == client.socket]
        if not of_path:
            return StreamEnd()
        self.failed(client)
        endpoints = self._endpoints.get(client.resource, {})
        if endpoints.pop(str(client.socket), None) is None:
            return StreamEnd(of_path[0])
        if endpoints:
            self._primary[client.resource] = next(iter(endpoints.values()))
            return StreamEnd(of_path[0])
        del self._endpoints[client.resource], self._primary[client.resource]
        return StreamEnd(of_path[0], resource_lost=True)

    def endpoint(self, resource: str) -> PluginClient | None:
        return self._primary.get(resource)

    def resources(self) -> Iterable[str]:
        return self._clients

    def clients(self) -> set[PluginClient]:
        registered = {client for endpoints in self._endpoints.values() for client in endpoints.values()}
        return registered.union(*self._clients.values())
