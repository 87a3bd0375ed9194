"""A small kubelet over real gRPC, and the plugin as a process of its own."""

import asyncio
import contextlib
import json
import shutil
import signal
import tempfile
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaos.instance import LOOK_SECONDS, Instance
from chaos.watched_node import PATIENCE_SECONDS
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from testkit.fresh_metrics import FreshPage


class Kubelet:
    """The device manager's manners, to 1.36: a small model over real gRPC, that neither sleeps nor polls.

    It wipes sockets before it listens, dials back during Register, and keeps its clients by resource name: when a
    client's stream ends, whichever client has that name by then is disconnected.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.requests = []
        self.lists = {}
        self.refuse = ""  # what Register answers instead
        self.ignore_stream = False  # accept Register, never ask for the list
        self.end_streams = False  # end every stream once its list is here
        self.hang = False  # never answer Register
        self.accepted = 0
        self.failed_dial_backs = 0
        self._clients = {}
        self._watchers = set()
        self._changed = asyncio.Condition()
        self._server = None

    async def start(self):
        for path in self.directory.iterdir():
            if path.is_socket() and path.name.endswith(".sock"):
                path.unlink()
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((services.registration_handler(self.register),))
        self._server.add_insecure_port(services.unix_target(str(self.directory / "kubelet.sock")))
        await self._server.start()

    async def stop(self):
        """As its process would end: every connection closes."""
        self._clients.clear()
        self.lists.clear()
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def register(self, request, context):
        self.requests.append(request)
        async with self._changed:
            self._changed.notify_all()
        if self.hang:
            await asyncio.Event().wait()
        if self.refuse:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        path = self.directory / request.endpoint
        if not path.is_socket():
            self.failed_dial_backs += 1
            await context.abort(grpc.StatusCode.UNKNOWN, "failed to dial device plugin")
        channel = services.unix_channel(str(path))
        stub = services.DevicePluginStub(channel)
        await stub.get_device_plugin_options(pb.Empty(), timeout=10)
        self._clients[request.resource_name] = channel
        watcher = asyncio.create_task(self._watch(request.resource_name, stub, channel))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        async with self._changed:
            self.accepted += 1
            self._changed.notify_all()
        return pb.Empty()

    async def _watch(self, resource, stub, channel):
        try:
            if self.ignore_stream:
                return
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for response in stub.list_and_watch(pb.Empty()):
                    await self._note(resource, [device.ID for device in response.devices])
                    if self.end_streams:
                        break
            await self.drop(resource)
        finally:
            await channel.close()

    async def drop(self, resource):
        """Disconnect whichever plugin has this name, as the real one does when any stream for it ends."""
        client = self._clients.pop(resource, None)
        if client is not None:
            await client.close()
        await self._note(resource, None)

    async def _note(self, resource, identifiers):
        async with self._changed:
            self.lists[resource] = identifiers
            self._changed.notify_all()

    async def until(self, predicate):
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(predicate), 20)

    async def until_list(self, *resources, registrations=1):
        """Until each resource has been registered so often and its list is here."""
        await self.until(
            lambda: all(self.lists.get(name) and len(self.registrations(name)) >= registrations for name in resources)
        )

    async def allocate(self, resource, *containers):
        stub = services.DevicePluginStub(self._clients[resource])
        request = pb.AllocateRequest(
            container_requests=[pb.ContainerAllocateRequest(devices_ids=identifiers) for identifiers in containers]
        )
        return list((await stub.allocate(request)).container_responses)

    def registrations(self, resource):
        return [request for request in self.requests if request.resource_name == resource]

    def endpoint(self, resource):
        """Where the resource was registered last."""
        return self.directory / self.registrations(resource)[-1].endpoint


class PluginProcess(Instance):
    """`python -m confcom.device_plugin`, with its metrics and its log."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self._page = FreshPage()

    async def metrics(self, name):
        """The samples of a metric as they are now; a second call waits for the next rendering."""
        await self._page.wait_async()
        status, body = await self.get("/metrics")
        self._page.received()
        assert status == 200
        families = text_string_to_metric_families(body.decode())
        return [sample for family in families for sample in family.samples if sample.name == name]

    async def metric(self, name, **labels):
        """The sum of a metric's samples with these labels."""
        return sum(one.value for one in await self.metrics(name) if labels.items() <= one.labels.items())

    def lines(self, **members):
        """The lines of its log that have these members, of which each is a JSON object; it is written in a thread."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if all(name in line and line[name] == value for name, value in members.items())]

    async def logged(self, count=1, **members):
        """Wait until so many lines have these members; returns them."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found := self.lines(**members)) < count:  # noqa: ASYNC110 # nothing tells when a file grows
                await asyncio.sleep(LOOK_SECONDS)
        return found


@pytest.fixture
def place():
    """A directory of the test's own, with a short path."""
    path = Path(tempfile.mkdtemp(prefix="dp-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def directory(place):
    """The device plugin directory."""
    made = place / "plugins"
    made.mkdir()
    return made


@pytest.fixture
async def kubelet(directory):
    made = Kubelet(directory)
    yield made
    await made.stop()


@pytest.fixture
async def start_plugin(place, directory):
    """Start a plugin process; all are ended, and no line of their logs is anything but JSON."""
    started = []

    async def start(*arguments, simulated=True, **how):
        own = ("--simulated", "--host-root", str(place / "host")) if simulated else ()
        arguments = ("--device-plugin-dir", str(directory), *own, *arguments)
        started.append(await PluginProcess.start(place, f"p{len(started)}", *arguments, **how))
        return started[-1]

    yield start
    for plugin in started:
        await plugin.end(signal.SIGTERM)
        plugin.lines()
