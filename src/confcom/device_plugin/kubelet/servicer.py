"""The plugin's side of the device plugin API for one resource, and detection of the kubelet's stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc

from confcom.device_plugin.kubelet.allocation import AllocationError, Allocator
from confcom.device_plugin.metrics import PluginMetrics
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import max_allocate_bytes
from confcom.kubelet_api.services import AllocateContext, ListContext, OptionsContext, device_plugin_handler

MAX_STREAMS = 8
"""Open ListAndWatch streams. A kubelet has one, or two after two registrations; the rest is for other clients."""


class StreamWatch:
    """The state of the kubelet's ListAndWatch stream: the first that is opened once we register.

    Only the end of this stream requires a new registration. Other clients may open and close streams too.
    """

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.lost = asyncio.Event()
        self.open_streams = 0
        self._kubelet_stream: object | None = None

    def expect(self) -> None:
        """Take the next stream for the kubelet's; called just before Register."""
        self.opened.clear()
        self.lost.clear()
        self._kubelet_stream = None

    def enter(self, stream: object) -> None:
        """Record that a stream was opened."""
        self.open_streams += 1
        if self._kubelet_stream is None:
            self._kubelet_stream = stream
            self.opened.set()

    def leave(self, stream: object) -> None:
        """Record that a stream has ended."""
        self.open_streams -= 1
        if stream is self._kubelet_stream:
            self.lost.set()


class ResourceServicer:
    """Serves one resource: its encoded device list, and Allocate."""

    def __init__(
        self, allocator: Allocator, list_bytes: bytes, *, metrics: PluginMetrics, clock: Callable[[], float]
    ) -> None:
        self.streams = StreamWatch()
        self._allocator = allocator
        self._list_bytes = list_bytes
        self._metrics = metrics
        self._clock = clock
        self._closing = asyncio.Event()

    @property
    def max_request_bytes(self) -> int:
        """Maximum size of a request that asks for every device once."""
        return max_allocate_bytes(self._allocator.resource.count)

    def end_streams(self) -> None:
        """End every ListAndWatch stream; a gRPC server that stops would otherwise wait for them."""
        self._closing.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler that serves this resource, for grpc.aio.Server.add_generic_rpc_handlers."""
        return device_plugin_handler(self._options, self._list_and_watch, self._allocate)

    async def _options(self, request: pb.Empty, context: OptionsContext) -> pb.DevicePluginOptions:
        del request, context
        return pb.DevicePluginOptions()

    async def _list_and_watch(self, request: pb.Empty, context: ListContext) -> AsyncIterator[bytes]:
        """Send the whole list once, then keep the stream open: devices are never withdrawn while the plugin runs."""
        del request
        if self.streams.open_streams >= MAX_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams are open already")
        stream = object()
        self.streams.enter(stream)
        try:
            yield self._list_bytes
            await self._closing.wait()
        finally:
            self.streams.leave(stream)

    async def _allocate(self, request: pb.AllocateRequest, context: AllocateContext) -> pb.AllocateResponse:
        """Answer Allocate; a refusal has an explanation, because the kubelet copies it to the pod's status."""
        name = self._allocator.resource.name
        started = self._clock()
        response, refusal = None, ""
        try:
            response = self._allocator.allocate(request)
        except AllocationError as error:
            self._metrics.allocate_failures.labels(name).inc()
            refusal = str(error)
        if response is None:
            # Outside of the except block, in which the error's traceback would hold every ID of the request.
            del request
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
        self._metrics.allocate_seconds.labels(name).observe(self._clock() - started)
        return response
