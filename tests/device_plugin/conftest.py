"""A kubelet in this process, and the plugin as a process of its own."""

import asyncio
import json
import signal

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from confcom.device_plugin.resources import ENCLAVE_RESOURCE, EPC_RESOURCE, HELPER_RESOURCE, PROVISION_RESOURCE
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.playground.kubelet.device_manager import DeviceManager
from confcom.playground.kubelet.ledger import DeviceLedger
from testkit.fresh_metrics import FreshPage
from testkit.plugin_process import LOOK_SECONDS, Instance
from testkit.watched_node import PATIENCE_SECONDS


class Kubelet(DeviceManager):
    """The playground's device manager, with the rules to 1.36: it notes what plugins do, and can misbehave."""

    def __init__(self, directory):
        super().__init__(directory, DeviceLedger(), self._notify)
        self.directory = directory
        self.requests = []
        self.refuse = ""  # what Register answers instead
        self.ignore_stream = False  # accept Register, never ask for the list
        self.end_streams = False  # end every stream once its list is here
        self.hang = False  # never answer Register
        self.accepted = 0
        self.failed_dial_backs = 0
        self._change = asyncio.Event()

    @property
    def lists(self):
        """The healthy devices of each resource."""
        return {name: list(known.healthy) for name, known in self._ledger._resources.items()}

    async def stop(self):
        await super().stop()
        self._ledger.forget_devices()

    async def register(self, request, context):
        self.requests.append(request)
        self._notify()
        if self.hang:
            await asyncio.Event().wait()
        if self.refuse:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        try:
            answer = await super().register(request, context)
        except grpc.aio.AbortError:
            self.failed_dial_backs += 1
            raise
        self.accepted += 1
        self._notify()
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
        return await super()._follow(client)

    def _notify(self):
        self._change.set()
        self._change = asyncio.Event()

    async def drop(self, resource):
        """Disconnect whichever plugin has this name, as the real one does when any stream for it ends."""
        client = self._registry.endpoint(resource)
        self._registry.ended(client)
        self._ledger.mark_unhealthy(resource)
        self._notify()
        await client.close()

    async def until(self, predicate):
        async with asyncio.timeout(20):
            while not predicate():
                await self._change.wait()

    async def until_list(self, *resources, registrations=1):
        """Until each resource has been registered so often and its list is here."""
        await self.until(
            lambda: all(self.lists.get(name) and len(self.registrations(name)) >= registrations for name in resources)
        )

    async def allocate(self, resource, *containers):
        request = pb.AllocateRequest(
            container_requests=[pb.ContainerAllocateRequest(devices_ids=identifiers) for identifiers in containers]
        )
        return list((await self._registry.endpoint(resource)._stub.allocate(request)).container_responses)

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
def directory(short_dir):
    """The device plugin directory."""
    made = short_dir / "plugins"
    made.mkdir()
    return made


@pytest.fixture
async def kubelet(directory):
    made = Kubelet(directory)
    yield made
    await made.stop()


@pytest.fixture
async def start_plugin(short_dir, directory):
    """Start a plugin process; all are ended, and no line of their logs is anything but JSON."""
    started = []

    async def start(*arguments, simulated=True, **how):
        own = ("--simulated", "--host-root", str(short_dir / "host")) if simulated else ()
        arguments = ("--device-plugin-dir", str(directory), *own, *arguments)
        started.append(await PluginProcess.start(short_dir, f"p{len(started)}", *arguments, **how))
        return started[-1]

    yield start
    for plugin in started:
        await plugin.end(signal.SIGTERM)
        plugin.lines()


@pytest.fixture
def start_listed(kubelet, start_plugin):
    """Start the kubelet and a plugin, and wait until the kubelet has the lists of these resources."""

    async def start(*arguments, lists=(EPC_RESOURCE, ENCLAVE_RESOURCE, PROVISION_RESOURCE, HELPER_RESOURCE), **how):
        await kubelet.start()
        plugin = await start_plugin(*arguments, **how)
        await kubelet.until_list(*lists)
        return plugin

    return start
