import asyncio
from pathlib import Path

import grpc
import grpc.aio

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services

RESOURCE = "example.com/thing"


class Plugin:
    """A device plugin for tests. The test sets the device lists and the answers."""

    def __init__(self, directory: Path, *, name="thing.sock", resource=RESOURCE, ids=()):
        self.directory, self.name, self.resource = directory, name, resource
        self.ids = list(ids)
        self.unhealthy = set()
        self.raw_list = None
        self.allocations = []
        self.refuse = False
        self.no_container_responses = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.options_asked = 0
        self.response = {}
        self._lists = []
        self._ended = asyncio.Event()
        self._asked = asyncio.Event()
        self._server = None

    @property
    def socket(self):
        return self.directory / self.name

    def encoded(self):
        devices = [pb.Device(ID=i, health="Unhealthy" if i in self.unhealthy else services.HEALTHY) for i in self.ids]
        return self.raw_list or pb.ListAndWatchResponse(devices=devices).SerializeToString()

    async def start(self):
        self._server = grpc.aio.server()
        handler = services.device_plugin_handler(self.get_device_plugin_options, self.list_and_watch, self.allocate)
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(services.unix_target(str(self.socket)))
        await self._server.start()

    async def stop(self):
        self.end_streams()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def register(self, *, version=services.API_VERSION, resource=None, endpoint=None):
        async with services.unix_channel(str(self.directory / "kubelet.sock")) as channel:
            request = pb.RegisterRequest(
                version=version, endpoint=self.name if endpoint is None else endpoint,
                resource_name=self.resource if resource is None else resource,
            )  # fmt: skip
            await services.RegistrationStub(channel).register(request, timeout=15, wait_for_ready=True)

    def send_list(self):
        for queue in self._lists:
            queue.put_nowait(self.encoded())

    def end_streams(self):
        for queue in self._lists:
            queue.put_nowait(None)

    async def get_device_plugin_options(self, request, context):
        self.options_asked += 1
        return pb.DevicePluginOptions()

    async def list_and_watch(self, request, context):
        queue = asyncio.Queue()
        self._lists.append(queue)
        try:
            yield self.encoded()
            while (encoded := await queue.get()) is not None:
                yield encoded
        finally:
            self._lists.remove(queue)
            self._ended.set()

    async def count_streams(self):
        return len(self._lists)

    async def stream_lost(self):
        """Wait until all streams from this plugin have ended."""
        while self._lists:
            self._ended.clear()
            await self._ended.wait()

    async def asked(self):
        await self._asked.wait()

    async def allocate(self, request, context):
        self.allocations.append(list(request.container_requests[0].devices_ids))
        self._asked.set()
        await self.answers.wait()
        if self.refuse:
            await context.abort(grpc.StatusCode.INTERNAL, "no such device today")
        if self.no_container_responses:
            return pb.AllocateResponse()
        return pb.AllocateResponse(container_responses=[pb.ContainerAllocateResponse(**self.response)])
