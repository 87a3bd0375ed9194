"""The demo kubelet's device manager accepts registrations, receives device lists, and allocates devices.

The manager follows even surprising rules of Kubernetes up to 1.36 (pkg/kubelet/cm/devicemanager); testkit
adds 1.37's rules. In testkit/kubelet_contract, the same cases run with this manager and with real kubelets.
"""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import grpc
import grpc.aio

from confcom.demo.ledger import AdmissionError, DeviceLedger
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from confcom.kubelet_api.checkpoint import CHECKPOINT_NAME
from confcom.kubernetes.names import extended_resource

DIAL_SECONDS = 10.0
"""Maximum seconds for connecting to the plugin during Register (devicemanager/plugin/v1beta1/client.go)."""

ALLOCATE_SECONDS = 60.0
"""Deadline for Allocate, after which the pod fails. A real kubelet would wait for ever and block its whole node."""


class Changes:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, predicate: Callable[[], object]) -> None:
        while not predicate():
            await self._event.wait()


def merge(responses: Iterable[pb.ContainerAllocateResponse]) -> pb.ContainerAllocateResponse:
    """Merge the responses for all resources. Like the kubelet, use the first value of a variable or path."""
    envs: dict[str, str] = {}
    devices: dict[str, pb.DeviceSpec] = {}
    mounts: dict[str, pb.Mount] = {}
    for response in responses:
        envs = {**response.envs, **envs}
        for device in response.devices:
            devices.setdefault(device.container_path, device)
        for mount in response.mounts:
            mounts.setdefault(mount.container_path, mount)
    return pb.ContainerAllocateResponse(envs=envs, devices=devices.values(), mounts=mounts.values())


class PluginClient:
    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self._closed = False
        self._channel = services.unix_channel(str(socket))
        self._stub = services.DevicePluginStub(self._channel)

    async def dial(self, seconds: float) -> str:
        """Connect and call GetDevicePluginOptions, as a kubelet does during Register; return the failure, or ""."""
        try:
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
                await self._stub.get_device_plugin_options(pb.Empty())
        except TimeoutError:
            return "failed to dial device plugin: context deadline exceeded"
        except grpc.aio.AioRpcError as error:
            return f"failed to dial device plugin: {error.details()}"
        return ""

    async def list_and_watch(self) -> AsyncIterator[dict[str, bool]]:
        """Yield every device list that the plugin sends (ID -> healthy) until the stream ends or breaks."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for response in self._stub.list_and_watch(pb.Empty()):
                yield {device.ID: device.health == services.HEALTHY for device in response.devices}

    async def allocate(self, ids: Sequence[str]) -> pb.ContainerAllocateResponse:
        """Call Allocate with these devices, for one container. Raise AdmissionError if the call fails."""
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        try:
            response = await self._stub.allocate(request, timeout=ALLOCATE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise AdmissionError(f"rpc error: code = {_go_name(error.code())} desc = {error.details()}") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            # grpc-go gives this text to a call whose connection the kubelet closes (ErrClientConnClosing).
            raise AdmissionError("rpc error: code = Canceled desc = grpc: the client connection is closing") from None
        if not response.container_responses:
            raise AdmissionError("no containers return in allocation response ")
        return response.container_responses[0]

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()


def _go_name(code: grpc.StatusCode) -> str:
    """Return a status code's name in messages of grpc-go and the kubelet, such as `DeadlineExceeded`."""
    if code is grpc.StatusCode.CANCELLED:
        return "Canceled"
    return "".join(word.capitalize() for word in code.name.split("_"))


class PluginRegistry:
    """The device plugins that the kubelet knows, according to the rules up to 1.36. This class does no I/O.

    The kubelet keeps two maps. The map *clients* (plugin/v1beta1/handler.go) decides which client is
    disconnected when a stream ends: the resource's current client, even if another client's stream ended. The
    map *endpoints* (manager.go) decides which client gets Allocate calls.

    A registration is `dialling`, then `failed` or `connected`, and later `ended`. A failed registration also
    removes the resource's client. A plugin that registered before keeps working, but the end of its stream is ignored.
    """

    def __init__(self) -> None:
        self._clients: dict[str, PluginClient] = {}
        self._endpoints: dict[str, PluginClient] = {}

    def dialling(self, client: PluginClient) -> None:
        self._clients[client.resource] = client

    def failed(self, client: PluginClient) -> None:
        self._clients.pop(client.resource, None)

    def connected(self, client: PluginClient) -> str:
        """Add the endpoint of a plugin that answered. Return why the plugin is refused, or ""."""
        self._endpoints[client.resource] = client
        return ""

    def ended(self, client: PluginClient) -> PluginClient | None:
        """Forget a client whose stream ended. Return the client to disconnect, which may be another, or None."""
        current = self._clients.pop(client.resource, None)
        if current is not None:
            self._endpoints.pop(client.resource, None)
        return current

    def endpoint(self, resource: str) -> PluginClient | None:
        return self._endpoints.get(resource)

    def clients(self) -> set[PluginClient]:
        return {*self._clients.values(), *self._endpoints.values()}


class DeviceManager:
    def __init__(
        self,
        directory: Path,
        ledger: DeviceLedger,
        changes: Changes,
        *,
        new_registry: Callable[[], PluginRegistry] = PluginRegistry,
        dial_seconds: float = DIAL_SECONDS,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._changes = changes
        self._new_registry = new_registry
        self._dial_seconds = dial_seconds
        self._server: grpc.aio.Server | None = None
        self._registry = new_registry()
        self._streams: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start as a kubelet does: unlink all sockets in the directory, forget all devices, serve Registration."""
        for entry in self._directory.iterdir():
            if stat.S_ISSOCK(entry.lstat().st_mode):
                entry.unlink(missing_ok=True)
        self._ledger.forget_devices()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((services.registration_handler(self.register),))
        server.add_insecure_port(services.unix_target(str(self._directory / services.KUBELET_SOCKET_NAME)))
        await server.start()
        self._server = server
        self._changes.notify()

    async def stop(self) -> None:
        """End every stream and stop serving. Allocations are kept."""
        # The server stops before the streams end, since a plugin that lost its stream registers again at once.
        registry, self._registry = self._registry, self._new_registry()
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace=None)
        streams, self._streams = self._streams, set()
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        for client in registry.clients():
            await client.close()
        (self._directory / services.KUBELET_SOCKET_NAME).unlink(missing_ok=True)

    async def register(self, request: pb.RegisterRequest, context: services.RegisterContext) -> pb.Empty:
        """Handle Register as a kubelet: check the request, connect to the plugin, and start ListAndWatch."""
        if refusal := self._refusal(request):
            await context.abort(grpc.StatusCode.UNKNOWN, refusal)
        client = PluginClient(request.resource_name, self._directory / request.endpoint)
        registry = self._registry
        registry.dialling(client)
        refusal = "the registration was cancelled"
        try:
            refusal = await client.dial(self._dial_seconds)
            if not refusal:
                refusal = registry.connected(client) if registry is self._registry else "the kubelet is stopping"
        finally:
            if refusal:
                registry.failed(client)
                await client.close()
        if refusal:
            await context.abort(grpc.StatusCode.UNKNOWN, refusal)
        stream = asyncio.create_task(self._follow(client))
        self._streams.add(stream)
        stream.add_done_callback(self._streams.discard)
        return pb.Empty()

    async def allocate(self, pod: str, container: str, requests: Mapping[str, int]) -> pb.ContainerAllocateResponse:
        """Allocate a container's devices, which stay allocated until the pod's release, even after an error."""
        responses = []
        for resource, count in requests.items():
            ids = self._ledger.allocate(pod, container, resource, count) if count else ()
            if not ids:
                continue
            self._write_checkpoint()
            client = self._registry.endpoint(resource)
            if client is None:
                raise AdmissionError(f"endpoint of {resource} has been stopped", why="its device plugin is gone")
            responses.append(await client.allocate(ids))
        return merge(responses)

    def _refusal(self, request: pb.RegisterRequest) -> str:
        if request.version != services.API_VERSION:
            return (
                f'requested API version "{request.version}" is not supported by kubelet. '
                f'Supported version is ["{services.API_VERSION}"]'
            )
        if not extended_resource(request.resource_name):
            return f'the ResourceName "{request.resource_name}" is invalid'
        if "/" in request.endpoint or request.endpoint in {"", ".", "..", services.KUBELET_SOCKET_NAME}:
            return f'the endpoint "{request.endpoint}" is not the name of a socket in {self._directory}'
        return ""

    async def _follow(self, client: PluginClient) -> None:
        async for devices in client.list_and_watch():
            self._ledger.replace(client.resource, devices)
            self._write_checkpoint()
            self._changes.notify()
        ended = self._registry.ended(client)
        if ended is not None and self._registry.endpoint(client.resource) is None:
            self._ledger.mark_unhealthy(client.resource)
            self._changes.notify()
        # If the end of a client's stream was ignored, the client may still be an endpoint for Allocate calls.
        for gone in {client, ended or client} - self._registry.clients():
            await gone.close()

    def _write_checkpoint(self) -> None:
        unfinished = self._directory / f".{CHECKPOINT_NAME}"
        unfinished.write_bytes(self._ledger.checkpoint())
        unfinished.rename(self._directory / CHECKPOINT_NAME)
