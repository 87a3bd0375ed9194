"""The device plugins that the kubelet knows, by the rules of one version. The versions differ only in this module.

The kubelet keeps two maps (pkg/kubelet/cm/devicemanager). The *clients* decide which client the end of a stream
disconnects (plugin/v1beta1/handler.go). The *endpoints* decide which client Allocate calls, and when a resource is lost
(manager.go).

A registry does no I/O: the device manager reports events to it, and acts on the results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from confcom.playground.kubelet.plugin_client import PluginClient


class KubeletRules(StrEnum):
    """The rules for device plugins that the stand-in follows; the value is the Kubernetes version that names them."""

    UP_TO_1_36 = "1.36"
    """One client per resource name."""
    FROM_1_37 = "1.37"
    """One client per resource name and socket path (as in 1.37.2)."""

    def new_registry(self) -> PluginRegistry:
        """Return an empty registry, as a kubelet has at its start."""
        return _ByResource() if self is KubeletRules.UP_TO_1_36 else _BySocket()


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The consequences of the end of one stream."""

    disconnect: PluginClient | None = None
    """The client to disconnect: not always the one whose stream ended; None if the end goes unnoticed."""
    resource_lost: bool = False
    """Whether every device of the resource becomes unhealthy."""


class PluginRegistry(Protocol):
    """The clients and the endpoints. A registration is `dialling`, then `failed` or `connected`, and later `ended`."""

    def dialling(self, client: PluginClient) -> None:
        """Add the client of a registration whose plugin is to be dialled."""

    def failed(self, client: PluginClient) -> None:
        """Remove the clients that a failed registration removes."""

    def connected(self, client: PluginClient) -> str:
        """Add the endpoint of a plugin that answered; return why it is refused, or ""."""

    def ended(self, client: PluginClient) -> StreamEnd:
        """Remove what the end of a registered client's stream removes, and return its consequences."""

    def endpoint(self, resource: str) -> PluginClient | None:
        """Return the client that Allocate calls for a resource."""

    def resources(self) -> Iterable[str]:
        """Return the resource names that have a client."""

    def clients(self) -> set[PluginClient]:
        """Return all clients and endpoints."""


class _ByResource:
    """The rules up to 1.36: the end of any stream of a resource disconnects the current client of that resource.

    A registration that fails removes the resource's client as well: the plugin that registered before keeps working,
    and the end of its stream goes unnoticed.
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
    """The rules from 1.37 on: the end of a stream disconnects only the client of that socket path.

    The resource is lost with its last endpoint. Until then its devices are those of the latest list from any plugin,
    and Allocate calls one of the remaining endpoints: an arbitrary one in the kubelet, the oldest one here.

    A registration of a path that has an endpoint is refused: "device plugin already connected". Like every failed
    registration it removes all clients of the path, including the working one. From then on the end of that client's
    stream goes unnoticed, its endpoint stays, and the path is refused until the kubelet restarts.
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
