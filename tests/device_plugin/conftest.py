"""A kubelet in this process, and the plugin as a process of its own."""

import asyncio
import json
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from confcom.device_plugin.resources import ENCLAVE_RESOURCE, EPC_RESOURCE, HELPER_RESOURCE, PROVISION_RESOURCE
from testkit.fresh_metrics import FreshPage
from testkit.kubelet import PATIENCE_SECONDS, Kubelet
from testkit.plugin_process import LOOK_SECONDS, Instance


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
