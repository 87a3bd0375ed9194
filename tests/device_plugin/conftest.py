import asyncio
import json
import os
import signal
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from confcom.kubernetes.names import REAL
from testkit.fresh_metrics import FreshPage
from testkit.helper_process import http_get
from testkit.kubelet import PATIENCE_SECONDS, Kubelet

LOOK_SECONDS = 0.01


class PluginProcess:
    """A device plugin's process, its probe socket, and its log file, which is empty if `stderr` is given."""

    def __init__(self, process, probe, log):
        self.process, self.probe, self.log = process, probe, log
        self._page = FreshPage()

    @classmethod
    async def start(cls, directory, name, *arguments, stderr=None):
        """Start a process without waiting for it; `name` is for its probe socket and log in the directory."""
        probe, log = directory / f"{name}.probe", directory / f"{name}.log"
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CONFCOM_")}
        with log.open("wb") as written:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "confcom.device_plugin"),
                *("--probe-address", f"unix:{probe}", *arguments),
                stderr=written if stderr is None else stderr,
                env=environ,
            )
        return cls(process, probe, log)

    @property
    def alive(self):
        return self.process.returncode is None

    async def get(self, path):
        try:
            return await asyncio.to_thread(http_get, self.probe, path)
        except (FileNotFoundError, ConnectionError):
            return None

    async def metrics(self, name):
        """The current samples of a metric; a second call waits for a newly rendered page."""
        await asyncio.to_thread(self._page.wait)
        status, body = await self.get("/metrics")
        self._page.received()
        assert status == 200
        families = text_string_to_metric_families(body)
        return [sample for family in families for sample in family.samples if sample.name == name]

    async def metric(self, name, **labels):
        return sum(one.value for one in await self.metrics(name) if labels.items() <= one.labels.items())

    def lines(self, **members):
        """Complete log lines with these members; the last line may be incomplete while the plugin writes."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if all(name in line and line[name] == value for name, value in members.items())]

    async def logged(self, count=1, **members):
        """Wait until `count` log lines have these members; return the lines."""

        async def look():
            return self.lines(**members)

        await self._until(look, lambda found: len(found) >= count)
        return self.lines(**members)

    async def inventory(self):
        """The plugin's inventory, or an inventory without resources if the plugin does not answer."""
        answer = await self.get("/inventory")
        return {"resources": []} if answer is None else json.loads(answer[1])

    async def resources(self):
        return {one["name"]: one for one in (await self.inventory())["resources"]}

    async def until_inventory(self, holds):
        await self._until(self.inventory, holds)

    async def until(self, holds):
        await self.until_inventory(lambda found: found["resources"] and holds(found["resources"]))

    async def until_code(self, code):
        await self.until(lambda all_: all(one["code"] == code for one in all_))

    async def until_registered(self, times=1):
        """Wait until every resource is registered, and has been registered at least `times` times."""
        await self.until(lambda all_: all(one["registered"] and one["registrations"] >= times for one in all_))

    async def ready(self):
        await self._until(lambda: self.get("/readyz"), lambda answer: answer is not None and answer[0] == 200)

    async def _until(self, look, holds):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(await look()):  # noqa: ASYNC110 # a plugin reports no state changes
                await asyncio.sleep(LOOK_SECONDS)

    async def end(self, number=signal.SIGKILL):
        if self.alive:
            self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()


@pytest.fixture
def directory(short_dir):
    """The device plugin directory; its name has characters with a meaning in URIs, which gRPC parses."""
    made = short_dir / "a b%20c#"
    made.mkdir()
    return made


@pytest.fixture
async def kubelet(directory):
    made = Kubelet(directory)
    yield made
    await made.stop()


@pytest.fixture
async def start_plugin(short_dir, directory):
    """Starts plugin processes; the fixture ends them, and checks that every line of their logs is JSON."""
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
    """Starts the kubelet and a plugin; waits until the kubelet has the device lists of these resources."""

    async def start(*arguments, lists=(REAL.epc, REAL.enclave, REAL.provision, REAL.helper), **how):
        await kubelet.start()
        plugin = await start_plugin(*arguments, **how)
        await kubelet.until_list(*lists)
        return plugin

    return start
