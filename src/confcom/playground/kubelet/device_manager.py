"""The kubelet's device manager: accepts registrations, receives device lists, allocates.

It follows the rules of Kubernetes (pkg/kubelet/cm/devicemanager), including the unexpected ones;
testkit/kubelet_contract runs against both. The rules up to 1.36 and from 1.37 on differ in which plugin is disconnected
when (plugin_registry).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import grpc.aio

from confcom.errors import UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.checkpoint import CHECKPOINT_NAME
from confcom.kubelet_api.resource_names import extended_resource
from confcom.kubelet_api.services import (
    API_VERSION,
    KUBELET_SOCKET_NAME,
    RegisterContext,
    registration_handler,
    unix_target,
)
from confcom.playground.kubelet.allocation import Allocation, merge
from confcom.playground.kubelet.ledger import AdmissionError, DeviceLedger
from confcom.playground.kubelet.plugin_client import PluginClient
from confcom.playground.kubelet.plugin_registry import KubeletRules

DIAL_SECONDS = 10.0
"""The kubelet dials the plugin during Register, for at most this time (devicemanager/plugin/v1beta1/client.go)."""

ENDPOINT_STOP_GRACE_SECONDS = 300.0
"""A resource without a plugin stays on the node, with allocatable 0, for 5 minutes (endpointStopGracePeriod)."""

MAX_RESOURCES = 64
"""Limit for registered resource names: no node has that many, and each needs memory."""

_logger = logging.getLogger(__name__)


class DeviceManager:
    """The device manager of the kubelet stand-in."""

    def __init__(
        self,
        directory: Path,
        ledger: DeviceLedger,
        changed: Callable[[], None],
        *,
        rules: KubeletRules = KubeletRules.UP_TO_1_36,
        dial_seconds: float = DIAL_SECONDS,
        stop_grace_seconds: float = ENDPOINT_STOP_GRACE_SECONDS,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._changed = changed
        self._dial_seconds = dial_seconds
        self._stop_grace_seconds = stop_grace_seconds
        self._server: grpc.aio.Server | None = None
        self._restarting = asyncio.Lock()
        self._rules = rules
        self._registry = rules.new_registry()
        self._streams: set[asyncio.Task[None]] = set()
        self._removals: dict[str, asyncio.TimerHandle] = {}

    async def start(self) -> None:
        """Unlink every socket in the directory, as a starting kubelet does, and serve Registration."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for entry in self._directory.iterdir():
            if stat.S_ISSOCK(entry.lstat().st_mode):
                entry.unlink(missing_ok=True)
        socket = self._directory / KUBELET_SOCKET_NAME
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((registration_handler(self.register),))
        try:
            server.add_insecure_port(unix_target(str(socket)))
        except RuntimeError as error:
            raise UnavailableError(f"cannot listen at {socket}", error_code="cannot-listen", why=str(error)) from None
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End every stream and stop serving; the ledger keeps its content."""
        # Registration stops before the streams end, since a plugin that lost its stream registers again at once.
        registry, self._registry = self._registry, self._rules.new_registry()
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace=None)
        streams, self._streams = self._streams, set()
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        for client in registry.clients():
            await client.close()
        for removal in self._removals.values():
            removal.cancel()
        self._removals.clear()
        (self._directory / KUBELET_SOCKET_NAME).unlink(missing_ok=True)

    async def restart(self) -> None:
        """Simulate a restart of the kubelet: plugins must register again, allocations are kept."""
        async with self._restarting:
            await self.stop()
            self._ledger.forget_devices()
            for resource in self._ledger.resources:
                self._remove_later(resource)
            await self.start()
        self._changed()

    async def register(self, request: pb.RegisterRequest, context: RegisterContext) -> pb.Empty:
        """Handle Register, the kubelet's service: check the request, dial the plugin, and start ListAndWatch."""
        if refusal := self._refusal(request):
            _logger.warning("registration refused", extra={"resource": request.resource_name, "reason": refusal})
            await context.abort(grpc.StatusCode.UNKNOWN, refusal)
        client = PluginClient(request.resource_name, self._directory / request.endpoint)
        registry = self._registry
        registry.dialling(client)
        try:
            await client.connect(self._dial_seconds)
        except asyncio.CancelledError:
            registry.failed(client)
            raise
        except UnavailableError as error:
            registry.failed(client)
            _logger.warning("registration failed", extra={"resource": client.resource, "reason": str(error)})
            await context.abort(grpc.StatusCode.UNKNOWN, error.what)
        refusal = registry.connected(client) if registry is self._registry else "the kubelet is stopping"
        if refusal:
            registry.failed(client)
            await client.close()
            _logger.warning("registration refused", extra={"resource": client.resource, "reason": refusal})
            await context.abort(grpc.StatusCode.UNKNOWN, refusal)
        if (removal := self._removals.pop(client.resource, None)) is not None:
            removal.cancel()
        stream = asyncio.create_task(self._follow(client))
        self._streams.add(stream)
        stream.add_done_callback(self._streams.discard)
        _logger.info("device plugin registered", extra={"resource": client.resource, "endpoint": request.endpoint})
        return pb.Empty()

    async def allocate(self, pod: str, container: str, requests: Mapping[str, int]) -> Allocation:
        """Choose devices for a container, and call Allocate of their plugins.

        On failure the devices stay allocated until the pod is released.

        Raises:
            AdmissionError: not enough devices, or a plugin refused.
        """
        responses = []
        for resource, count in requests.items():
            if count == 0:
                continue
            ids = self._ledger.allocate(pod, container, resource, count)
            if not ids:
                continue
            self._write_checkpoint()
            client = self._registry.endpoint(resource)
            if client is None:
                raise AdmissionError(
                    f"endpoint of {resource} has been stopped",
                    why="its device plugin is gone",
                )
            responses.append(await client.allocate(ids))
        return merge(responses)

    def _refusal(self, request: pb.RegisterRequest) -> str:
        name = request.resource_name
        if request.version != API_VERSION:
            return (
                f'requested API version "{request.version}" is not supported by kubelet. '
                f'Supported version is ["{API_VERSION}"]'
            )
        if not extended_resource(name):
            return f'the ResourceName "{name}" is invalid'
        if not request.endpoint or "/" in request.endpoint or request.endpoint in {".", "..", KUBELET_SOCKET_NAME}:
            return f'the endpoint "{request.endpoint}" is not the name of a socket in {self._directory}'
        known = self._registry.resources()
        if name not in known and len({*known, *self._ledger.resources}) >= MAX_RESOURCES:
            return f"there are {MAX_RESOURCES} resources already"
        return ""

    async def _follow(self, client: PluginClient) -> None:
        reason = "the plugin ended the stream"
        try:
            async for devices in client.list_and_watch():
                self._ledger.replace(client.resource, devices)
                self._write_checkpoint()
                _logger.info("device list received", extra={"resource": client.resource, "devices": len(devices)})
                self._changed()
        except UnavailableError as error:
            reason = str(error)
        _logger.warning("device plugin lost", extra={"resource": client.resource, "reason": reason})
        end = self._registry.ended(client)
        if end.resource_lost:
            self._ledger.mark_unhealthy(client.resource)
            self._remove_later(client.resource)
            self._changed()
        # A client whose end goes unnoticed may still be an endpoint: it stays connected for Allocate.
        for gone in {client, end.disconnect or client} - self._registry.clients():
            await gone.close()

    def _write_checkpoint(self) -> None:
        """Replace the checkpoint, as the kubelet does after each list, allocation and removal."""
        unfinished = self._directory / f".{CHECKPOINT_NAME}"
        with contextlib.suppress(FileNotFoundError):  # a directory that was removed costs the kubelet its record only
            unfinished.write_bytes(self._ledger.checkpoint())
            unfinished.rename(self._directory / CHECKPOINT_NAME)

    def _remove_later(self, resource: str) -> None:
        def remove() -> None:
            del self._removals[resource]
            self._ledger.remove(resource)
            self._write_checkpoint()
            self._changed()

        if (pending := self._removals.pop(resource, None)) is not None:
            pending.cancel()
        self._removals[resource] = asyncio.get_running_loop().call_later(self._stop_grace_seconds, remove)
