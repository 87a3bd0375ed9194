"""The gRPC server of one resource, on its own socket; it sends the device list and answers Allocate."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from confcom.daemon.socket_path import SUN_PATH_BYTES
from confcom.device_plugin.allocation import AllocationError, Allocator
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.socket_names import NAME_BYTES
from confcom.errors import SettingsError, UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import max_allocate_bytes
from confcom.kubelet_api.services import (
    AllocateContext,
    ListContext,
    OptionsContext,
    device_plugin_handler,
    unix_target,
)

MAX_STREAMS = 8
"""Maximum number of open ListAndWatch streams. One is for the kubelet, the others are for other clients."""
MAX_CONCURRENT_CALLS = MAX_STREAMS + 4
"""The kubelet makes one call at a time beside its stream. Calls beyond the limit are refused, so that
requests do not fill the memory. A request has at most 10 KiB for 2,048 devices and 1.3 MiB for 262,144.
Twelve requests of 1.3 MiB take 16 MiB of the 128 MiB that the plugin has in the chart."""
STOP_SECONDS = 1.0
"""Seconds for which a stopping server waits for open calls other than streams. Allocate takes under 1 ms."""


@dataclass(slots=True)
class Endpoint:
    """The gRPC server of one resource on one socket, whose path is never used again.

    gRPC silently takes over a live socket's path. When a server ends, gRPC removes the server's path, even if
    another server has taken it over. The first stream is the kubelet's, since no other program knows the path
    before Register. Only the end of the kubelet's stream requires a new registration.
    """

    path: Path
    allocator: Allocator
    list_bytes: bytes
    metrics: PluginMetrics
    clock: Callable[[], float]
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """`opened` is set when the kubelet opens its stream, and `lost` is set when this stream has ended."""
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    """The event ends all ListAndWatch streams. Otherwise a stopping gRPC server would wait for them."""
    _streams: int = 0
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        require_directory(self.path.parent)
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
            options=(
                ("grpc.max_receive_message_length", max_allocate_bytes(self.allocator.resource.count)),
                # By default, gRPC enlarges each connection's receive window, up to several MiB.
                ("grpc.http2.bdp_probe", 0),
            ),
        )
        handler = device_plugin_handler(self._options, self._list_and_watch, self._allocate)
        server.add_generic_rpc_handlers((handler,))
        try:
            server.add_insecure_port(unix_target(str(self.path)))
        except RuntimeError as error:
            raise UnavailableError(
                f"the device plugin's socket {self.path} cannot be bound",
                error_code="socket-path-unusable",
                why=str(error),
                remedy="check the directory; GRPC_VERBOSITY=debug shows gRPC's messages",
            ) from error
        self._server = server
        await server.start()

    def path_exists(self) -> bool:
        """Return whether the socket's path exists. A starting kubelet removes all sockets in its folder."""
        return os.path.lexists(self.path)

    async def close(self) -> None:
        self._closing.set()
        server, self._server = self._server, None
        try:
            if server is not None:
                # Without shield(), gRPC's asyncio.wait_for may lose a cancellation on Python 3.11.
                await asyncio.shield(server.stop(STOP_SECONDS))
        finally:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    async def _options(self, request: pb.Empty, context: OptionsContext) -> pb.DevicePluginOptions:
        del request, context
        return pb.DevicePluginOptions()

    async def _list_and_watch(self, request: pb.Empty, context: ListContext) -> AsyncIterator[bytes]:
        """Send the whole list once, then keep the stream open. Devices are never removed from a sent list."""
        del request
        if self._streams >= MAX_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams are open already")
        self._streams += 1
        is_the_kubelets = not self.opened.is_set()
        self.opened.set()
        try:
            yield self.list_bytes
            await self._closing.wait()
        finally:
            self._streams -= 1
            if is_the_kubelets:
                self.lost.set()

    async def _allocate(self, request: pb.AllocateRequest, context: AllocateContext) -> pb.AllocateResponse:
        """Answer Allocate. A refusal contains the reason, which the kubelet copies to the Pod's status."""
        name, started = self.allocator.resource.name, self.clock()
        response, refusal = None, ""
        try:
            response = self.allocator.allocate(request)
        except AllocationError as error:
            self.metrics.allocate_failures.labels(name).inc()
            refusal = str(error)
        if response is None:
            # abort() comes after the except block, whose traceback would keep the request's IDs in memory.
            del request
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
        self.metrics.allocate_seconds.labels(name).observe(self.clock() - started)
        return response


def require_directory(directory: Path) -> None:
    """Raise SettingsError or UnavailableError if no socket can be bound in the kubelet's directory."""
    size = len(os.fsencode(directory)) + 1 + NAME_BYTES
    if size > SUN_PATH_BYTES:
        raise SettingsError(
            f"the device plugin's socket paths would be {size} bytes long in {directory}",
            error_code="socket-path-too-long",
            why=f"a unix socket's path has at most {SUN_PATH_BYTES} bytes",
            remedy="give a --device-plugin-dir with a shorter path",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        state = "cannot be written" if os.access(directory, os.F_OK) else "does not exist"
        raise UnavailableError(
            f"the device plugin directory {directory} {state}",
            error_code="device-plugin-dir-unusable",
            why="a kubelet creates it when it starts, and only root may write there",
            remedy="start the kubelet first, run the plugin as root, or give --device-plugin-dir (the kubelet's "
            "--root-dir does not move it)",
        )
