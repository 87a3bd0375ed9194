"""The plugin's end of the device plugin API, for one resource, and whose stream is the kubelet's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc

from confcom.device_plugin.kubelet.allocation import AllocationError, Allocator
from confcom.device_plugin.metrics import PluginMetrics
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import max_allocate_bytes
from confcom.kubelet_api.services import AllocateContext, ListContext, OptionsContext

MAX_STREAMS = 8
"""Open ListAndWatch streams. A kubelet has one, two after registering twice; the rest is for people who look."""


class StreamWatch:
    """Which of the open streams is the kubelet's: the first that is opened once we ask to be registered.

    Only its end calls for a new registration. Others may look at the list too, and come and go.
    """

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.lost = asyncio.Event()
        self.open_streams = 0
        self._kubelet_stream: object | None = None

    def expect(self) -> None:
        """We are about to register: the next stream is the kubelet's."""
        self.opened.clear()
        self.lost.clear()
        self._kubelet_stream = None

    def enter(self, stream: object) -> None:
        """A stream was opened."""
        self.open_streams += 1
        if self._kubelet_stream is None:
            self._kubelet_stream = stream
            self.opened.set()

    def leave(self, stream: object) -> None:
        """A stream has ended."""
        self.open_streams -= 1
        if stream is self._kubelet_stream:
            self.lost.set()


class ResourceServicer:
    """Serves one resource: its cached list, and Allocate.

    Args:
        allocator: decides what a container gets.
        list_bytes: the whole device list, encoded once.
        metrics: where requests are counted.
        clock: monotonic seconds.
    """

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
        """How long a request can be that asks for what there is."""
        return max_allocate_bytes(self._allocator.resource.count)

    def end_streams(self) -> None:
        """Let every ListAndWatch end; a gRPC server would otherwise wait for them when it stops."""
        self._closing.set()

    async def get_device_plugin_options(self, request: pb.Empty, context: OptionsContext) -> pb.DevicePluginOptions:
        """Nothing beyond Allocate is wanted."""
        del request, context
        return pb.DevicePluginOptions()

    async def list_and_watch(self, request: pb.Empty, context: ListContext) -> AsyncIterator[bytes]:
        """The whole list at once, then silence: devices are never withdrawn while the plugin runs."""
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

    async def allocate(self, request: pb.AllocateRequest, context: AllocateContext) -> pb.AllocateResponse:
        """What containers get; a refusal reaches the pod's status through the kubelet, so it explains itself."""
        name = self._allocator.resource.name
        started = self._clock()
        response, refusal = None, ""
        try:
            response = self._allocator.allocate(request)
        except AllocationError as error:
            self._metrics.allocate_failures.labels(name).inc()
            refusal = str(error)
        if response is None:
            # Not while the error is handled: its traceback holds every ID of the request.
            del request
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
        self._metrics.allocate_seconds.labels(name).observe(self._clock() - started)
        return response
