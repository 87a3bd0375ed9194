"""A kubelet in this process: the demo's device manager, which here records calls and can misbehave."""

import asyncio
import collections
import time

import grpc
import grpc.aio

from confcom.demo.device_manager import Changes, DeviceManager, PluginRegistry
from confcom.demo.ledger import DeviceLedger
from confcom.kubelet_api import deviceplugin_pb2 as pb

PATIENCE_SECONDS = 30.0
"""Longest wait for an expected event; events take milliseconds unless the machine is busy."""


class RegistryFrom137(PluginRegistry):
    """The rules from 1.37 on. The end of a stream disconnects only the client of the stream's own socket path.

    A resource is lost when its last endpoint ends. Before that, its devices are in the latest list from any
    plugin, and Allocate calls a remaining endpoint. A kubelet may choose any; this class chooses the oldest.

    The kubelet refuses to register a path with an endpoint ("device plugin already connected"). Every failed
    registration removes all clients of the path, even the working client. After that the kubelet overlooks
    the end of the working client's stream, keeps the endpoint, and refuses the path until its own restart.
    """

    def __init__(self):
        self._clients = collections.defaultdict(list)
        """Clients, keyed by resource name and socket path."""
        self._endpoints = {}
        """Endpoints, keyed by resource name and socket path, the oldest first."""
        self._primary = {}
        """The endpoint that Allocate calls, keyed by resource name."""

    def dialling(self, client):
        self._clients[client.resource, client.socket].append(client)

    def failed(self, client):
        self._clients.pop((client.resource, client.socket), None)

    def connected(self, client):
        if (client.resource, client.socket) in self._endpoints:
            return f"device plugin already connected: {client.socket}"
        self._endpoints[client.resource, client.socket] = self._primary[client.resource] = client
        return ""

    def ended(self, client):
        clients = self._clients.pop((client.resource, client.socket), None)
        if clients is None:
            return None
        if self._endpoints.pop((client.resource, client.socket), None) is not None:
            del self._primary[client.resource]
            for (resource, _), other in self._endpoints.items():
                if resource == client.resource:
                    self._primary.setdefault(resource, other)
        return clients[0]

    def endpoint(self, resource):
        return self._primary.get(resource)

    def clients(self):
        return {*self._endpoints.values(), *(client for clients in self._clients.values() for client in clients)}


RULES = {"1.36": PluginRegistry, "1.37": RegistryFrom137}
"""Kubelets' rules, keyed by version: "1.36" is for versions up to 1.36, "1.37" for versions from 1.37 on."""


class History(Changes):
    def __init__(self, ledger):
        super().__init__()
        self.allocatable = []
        """Pairs of a time in monotonic seconds and the number of allocatable devices, keyed by resource."""
        self._ledger = ledger

    def notify(self):
        self.allocatable.append((time.monotonic(), self._ledger.allocatable()))
        super().notify()


class Kubelet(DeviceManager):
    def __init__(self, directory, new_registry=PluginRegistry):
        self.ledger = DeviceLedger()
        self.history = History(self.ledger)
        super().__init__(directory, self.ledger, self.history, new_registry=new_registry, dial_seconds=5)
        self.directory = directory
        self.requests = []
        """All Register requests, successful or not."""
        self.accepted = 0
        self.failed_dial_backs = 0
        self.followed = collections.Counter()
        """Number of open streams, keyed by socket path."""
        self.admits = asyncio.Event()
        """Calls of Register wait until this event is set."""
        self.admits.set()
        self.refuse = ""
        """Error message with which Register fails; empty if Register succeeds."""
        self.lost_answers = 0
        """Number of the next Register calls that take effect, but whose answers are lost."""
        self.ignore_stream = False
        """Whether the kubelet accepts registrations but never requests a list of devices."""
        self.end_streams = False
        """Whether the kubelet ends every stream after the stream's first list."""

    @property
    def lists(self):
        return {name: self.ledger.healthy(name) for name in self.ledger.capacity()}

    async def restart(self):
        await self.stop()
        await self.start()

    async def stop(self):
        await super().stop()
        self.ledger.forget_devices()

    async def register(self, request, context):
        self.requests.append(request)
        self.history.notify()
        await self.admits.wait()
        if self.refuse:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        try:
            answer = await super().register(request, context)
        except grpc.aio.AbortError:
            self.failed_dial_backs += 1
            raise
        self.accepted += 1
        self.history.notify()
        if self.lost_answers:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        return answer

    async def _follow(self, client):
        if self.ignore_stream:
            return await client.close()
        follow = client.list_and_watch

        async def list_and_watch():
            async for devices in follow():
                yield devices
                if self.end_streams:
                    break

        client.list_and_watch = list_and_watch
        self.followed[client.socket] += 1
        self.history.notify()
        try:
            await super()._follow(client)
        finally:
            self.followed[client.socket] -= 1
            self.history.notify()

    async def drop(self, resource):
        """Disconnect the resource's current plugin, as kubelets do when any stream of the resource ends."""
        client = self._registry.endpoint(resource)
        self._registry.ended(client)
        self.ledger.mark_unhealthy(resource)
        self.history.notify()
        await client.close()

    async def until(self, predicate):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.history.until(predicate)

    async def until_list(self, *resources, registrations=1):
        """Wait until each resource has had this number of registrations, and its list has arrived."""
        await self.until(
            lambda: all(self.lists.get(name) and len(self.registrations(name)) >= registrations for name in resources)
        )

    async def ask(self, resource, *containers):
        """Call Allocate for containers with these devices; return the plugin's answers."""
        request = pb.AllocateRequest(
            container_requests=[pb.ContainerAllocateRequest(devices_ids=identifiers) for identifiers in containers]
        )
        return list((await self._registry.endpoint(resource)._stub.allocate(request)).container_responses)

    def registrations(self, resource):
        return [request for request in self.requests if request.resource_name == resource]

    def endpoint(self, resource):
        return self.directory / self.registrations(resource)[-1].endpoint

    def asked(self, resource):
        """Socket of the plugin that the kubelet would call for Allocate, or None."""
        client = self._registry.endpoint(resource)
        return None if client is None else client.socket

    def registered_sockets(self):
        return {client.socket for client in self._registry.clients()}
