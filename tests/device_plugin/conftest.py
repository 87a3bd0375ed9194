"""A small kubelet over real gRPC, and the plugin as a process of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import grpc.aio
import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"


class Kubelet:
    """The device manager's manners: wipes sockets at start, dials back during Register, keeps one stream per Register.

    Nothing of it sleeps or polls: `changed` is notified at every event.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.requests = []
        self.lists = {}
        self.refuse = None  # what Register answers instead
        self.ignore_stream = False  # accept Register, never ask for the list
        self.dial_back_failures = Counter()
        self.streams = {}
        self._changed = asyncio.Condition()
        self._server = None

    async def start(self):
        for path in self.directory.iterdir():
            if path.is_socket():
                path.unlink()
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((services.registration_handler(self),))
        self._server.add_insecure_port(services.unix_target(str(self.directory / "kubelet.sock")))
        await self._server.start()

    async def stop(self):
        """As the process would end: connections close; the socket file stays."""
        streams, self.streams = self.streams, {}
        for task, channel in streams.values():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await channel.close()
        self.lists.clear()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def register(self, request, context):
        self.requests.append(request)
        if self.refuse:
            async with self._changed:
                self._changed.notify_all()
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        path = self.directory / request.endpoint
        if not path.is_socket():
            self.dial_back_failures[request.resource_name] += 1
            await context.abort(grpc.StatusCode.UNKNOWN, "failed to dial device plugin")
        channel = services.unix_channel(str(path))
        stub = services.DevicePluginStub(channel)
        await stub.get_device_plugin_options(pb.Empty(), timeout=10)
        if self.ignore_stream:
            await channel.close()
        else:
            task = asyncio.create_task(self._watch(request.resource_name, stub))
            self.streams[request.endpoint] = (task, channel)
        return pb.Empty()

    async def _watch(self, resource, stub):
        try:
            async for response in stub.list_and_watch(pb.Empty()):
                await self._note(resource, [device.ID for device in response.devices])
        except grpc.aio.AioRpcError:
            pass
        await self._note(resource, None)

    async def _note(self, resource, identifiers):
        async with self._changed:
            self.lists[resource] = identifiers
            self._changed.notify_all()

    async def until(self, predicate):
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(predicate), 20)

    async def until_list(self, *resources):
        await self.until(lambda: all(self.lists.get(resource) for resource in resources))

    async def allocate(self, resource, identifiers):
        endpoint = next(r.endpoint for r in reversed(self.requests) if r.resource_name == resource)
        stub = services.DevicePluginStub(self.streams[endpoint][1])
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=identifiers)])
        return (await stub.allocate(request)).container_responses[0]

    def registrations(self, resource=EPC):
        return [request for request in self.requests if request.resource_name == resource]


class PluginProcess:
    """`python -m confcom.device_plugin`, its log as a list of objects, its probes."""

    def __init__(self, process, probe: Path) -> None:
        self.process = process
        self.probe = probe
        self.log = []
        self.text = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stderr:
            self.text += line.decode()
            with contextlib.suppress(ValueError):
                self.log.append(json.loads(line))

    def messages(self, text):
        return [entry for entry in self.log if entry["message"] == text]

    async def get(self, path):
        reader, writer = await asyncio.open_unix_connection(str(self.probe))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

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
    yield path
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
        probe = directory / f"probe{len(started)}"
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
