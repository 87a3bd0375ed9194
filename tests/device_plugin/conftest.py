"""A kubelet in this process, and the plugin as a process of its own."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import grpc.aio
import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.playground.kubelet.device_manager import DeviceManager
from confcom.playground.kubelet.ledger import DeviceLedger
from testkit.fresh_metrics import FreshPage


class Kubelet(DeviceManager):
    """The playground's device manager, with the rules to 1.36: it notes what plugins do, and can misbehave."""

    def __init__(self, directory: Path) -> None:
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


class PluginProcess:
    """`python -m confcom.device_plugin`: its log as a list of objects, its probes, its end."""

    def __init__(self, process, probe: Path) -> None:
        self.process = process
        self.probe = probe
        self.page = FreshPage()
        self.log = []
        self._logged = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stderr:
            async with self._logged:
                self.log.append(json.loads(line) if line.startswith(b"{") else {"message": line.decode()})
                self._logged.notify_all()

    def messages(self, text):
        return [entry for entry in self.log if entry["message"] == text]

    async def until_log(self, text, times=1):
        async with self._logged:
            await asyncio.wait_for(self._logged.wait_for(lambda: len(self.messages(text)) >= times), 20)

    async def get(self, path):
        reader, writer = await asyncio.open_unix_connection(str(self.probe))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def metrics(self):
        """The page of metrics as they are now; a second call waits for the next rendering."""
        await self.page.wait_async()
        status, body = await self.get("/metrics")
        self.page.received()
        assert status == 200
        return body.decode()

    async def inventory(self):
        status, body = await self.get("/inventory")
        assert status == 200
        return json.loads(body)

    async def end(self, number=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), 20)
        await self._reading
        return code


@pytest.fixture
def directory():
    path = Path(tempfile.mkdtemp(prefix="dp-", dir="/tmp"))
    (path / "dp").mkdir()
    yield path / "dp"
    shutil.rmtree(path)


@pytest.fixture
async def kubelet(directory):
    made = Kubelet(directory)
    yield made
    await made.stop()


@pytest.fixture
async def start_plugin(directory):
    """Start a plugin process; all are ended, with nothing of theirs left in the directory."""
    started = []

    async def start(*arguments, simulated=True):
        probe = directory.parent / f"probe{len(started)}"
        command = [sys.executable, "-m", "confcom.device_plugin", "--device-plugin-dir", str(directory)]
        command += ["--probe-address", f"unix:{probe}", "--log-format", "json"]
        command += ["--simulated", "--host-root", str(directory / "host")] if simulated else []
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CONFCOM_")}
        process = await asyncio.create_subprocess_exec(
            *command, *arguments, stderr=asyncio.subprocess.PIPE, env=environ
        )
        started.append(PluginProcess(process, probe))
        return started[-1]

    yield start
    for plugin in started:
        await plugin.end()
        stray = "".join(entry["message"] for entry in plugin.log if "level" not in entry)
        assert stray == "", f"lines that are no JSON: {stray}"
