"""Runs the registrar in this process with stand-ins for sleeps, which only record the delays."""

import asyncio
import errno
import shutil
import socket
from unittest.mock import Mock

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from confcom.device_plugin import endpoint, kubelet_socket, registration
from confcom.device_plugin.allocation import Allocator
from confcom.device_plugin.device_nodes import Problem
from confcom.device_plugin.device_watch import DeviceAvailability
from confcom.device_plugin.endpoint import Endpoint
from confcom.device_plugin.epc import discover
from confcom.device_plugin.kubelet_socket import POLL_SECONDS, KubeletWatch
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.registration import YIELD_SECONDS, Registrar, RegistrationCause, run_unless
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.device_plugin.socket_names import SocketNames, _state
from confcom.errors import UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from confcom.kubelet_api.device_list import encode_device_list
from confcom.kubernetes.names import REAL
from testkit.conditions import until
from testkit.hosts.fake import FakeHost


class Sleeps:
    """Records delays instead of sleeping; after each delay `then(number)` may change the host."""

    def __init__(self):
        self.delays = []
        self.then = lambda _number: None

    async def __call__(self, seconds):
        self.delays.append(seconds)
        change = self.then(len(self.delays))
        await (asyncio.sleep(0) if change is None else change)


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
async def registrar(directory, sleeps):
    metrics = PluginMetrics(CollectorRegistry())
    resource = Resource(ResourceKind.EPC, REAL.epc, 4)
    allocator = Allocator(resource, discover(FakeHost(), simulated_epc_mib=28), mounts_aesmd=True)
    numbers = iter(range(1000))
    names = SocketNames(directory, "confcom", "me0")

    def new_endpoint():
        path = names.path(resource, next(numbers))
        return Endpoint(path, allocator, encode_device_list(4), metrics=metrics, clock=lambda: 0.0)

    made = Registrar(
        resource_name=REAL.epc,
        kubelet=KubeletWatch(directory / "kubelet.sock", sleep=sleeps),
        new_endpoint=new_endpoint,
        peers=names.peers(resource),
        yields=False,
        metrics=metrics,
        jitter=lambda: 0.0,
        clock=lambda: 0.0,
        sleep=sleeps,
    )
    yield made
    await made.close()


class Device(DeviceAvailability):
    """A device, and the registrar that runs while the device is there, as in the daemon."""

    def __init__(self, registrar):
        super().__init__()
        self.registrar = registrar
        self.tasks = []

    def run(self):
        self.tasks.append(asyncio.create_task(self.registrar.run_while(self)))
        return self.tasks[-1]

    async def take(self):
        """Take the device away; wait until the registrar serves no socket any more."""
        self.mark_unavailable(Problem("it was taken", "give it back", code="taken"))
        await until(lambda: self.registrar.socket_path is None and self.registrar.status.code == "taken")


@pytest.fixture
async def device(registrar):
    """A fixture with a device; the device ends before the test's kubelet."""
    made = Device(registrar)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


TROUBLE = {
    "refuse": ("register-refused", RegistrationCause.START),
    "end_streams": ("", RegistrationCause.STREAM_LOST),
    "ignore_stream": ("list-not-requested", RegistrationCause.START),
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_refusing_kubelet_is_asked_less_often(kubelet, sleeps, registrar, device, *, monkeypatch, trouble):
    monkeypatch.setattr(registration, "FIRST_STREAM_SECONDS", 0.05 if trouble == "ignore_stream" else 1000)
    code, cause = TROUBLE[trouble]
    codes = set()

    def relent(number):
        codes.add(registrar.status.code)
        if number == 12:
            setattr(kubelet, trouble, False)

    setattr(kubelet, trouble, "not now")
    sleeps.then = relent
    await kubelet.start()
    device.run()
    await kubelet.until_list(REAL.epc, registrations=13)
    await until(lambda: registrar.status.registered)
    assert codes == {code}
    assert sleeps.delays == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5, 5, 5, 5]
    assert len(kubelet.requests) == 13
    assert (registrar.status.cause, registrar.status.problem, registrar.status.code) == (cause, "", "")


@pytest.mark.parametrize(
    "delays", [[POLL_SECONDS] * 5, [POLL_SECONDS, POLL_SECONDS, YIELD_SECONDS]], ids=["usual", "yields"]
)
async def test_an_absent_kubelet_is_looked_for_often(kubelet, sleeps, registrar, device, delays):
    """A registrar that yields registers after the others; it is for a resource that tenants rarely need."""

    async def appear(number):
        if number == delays.count(POLL_SECONDS):
            await kubelet.start()

    registrar.yields, sleeps.then = YIELD_SECONDS in delays, appear
    device.run()
    await kubelet.until_list(REAL.epc)
    assert sleeps.delays == delays
    assert kubelet.failed_dial_backs == 0


async def test_many_who_wait_for_a_kubelet_poll_as_one(kubelet, sleeps, directory):
    async def appear(number):
        await asyncio.sleep(0)
        if number == 5:
            await kubelet.start()

    sleeps.then = appear
    watch = KubeletWatch(directory / "kubelet.sock", sleep=sleeps)
    waiting = [asyncio.create_task(watch.wait()) for _ in range(4)]
    await asyncio.sleep(0)
    waiting.pop(0).cancel()  # the polling task
    await asyncio.gather(*waiting)
    assert 5 <= len(sleeps.delays) <= 6


async def test_a_dying_kubelets_connection_is_tried_again_soon(kubelet, sleeps, registrar, device):
    """The registrar connects again sooner than gRPC alone, which would wait for a second."""
    codes = set()
    dying = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), kubelet.directory / "kubelet.sock")

    async def die(_number):
        codes.add(registrar.status.code)
        if dying.is_serving():
            dying.close()
            await kubelet.start()

    sleeps.then = die
    device.run()
    await kubelet.until_list(REAL.epc)
    assert codes == {"kubelet-disconnected"}
    assert sleeps.delays == [0.02]


async def test_a_new_kubelet_starts_with_the_shortest_delay(kubelet, sleeps, registrar, device):
    async def restart(number):
        if number == 6:
            await kubelet.stop()
            kubelet.end_streams = False
        elif number == 8:
            await kubelet.start()

    kubelet.end_streams, sleeps.then = True, restart
    await kubelet.start()
    device.run()
    await kubelet.until(lambda: not kubelet.end_streams and kubelet.lists.get(REAL.epc))
    await kubelet.drop(REAL.epc)
    await kubelet.until_list(REAL.epc)
    assert sleeps.delays == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, POLL_SECONDS, POLL_SECONDS, 0.02]
    assert len({request.endpoint for request in kubelet.requests}) == len(kubelet.requests)
    assert kubelet.failed_dial_backs == 0


async def test_a_kubelet_that_goes_before_it_asks(kubelet, registrar, device, monkeypatch):
    monkeypatch.setattr(registration, "FIRST_STREAM_SECONDS", 1000)
    kubelet.ignore_stream = True
    await kubelet.start()
    device.run()
    await kubelet.until(lambda: kubelet.accepted)
    await kubelet.stop()
    kubelet.ignore_stream = False
    await kubelet.start()
    await kubelet.until_list(REAL.epc, registrations=2)
    assert kubelet.failed_dial_backs == 0


async def test_a_kubelet_that_removes_the_socket_first(kubelet, sleeps, registrar, device, monkeypatch):
    codes = []

    async def sweep(*args):
        await connect(*args)
        if not sleeps.delays:
            for path in kubelet.directory.glob("sgx-*.sock"):
                path.unlink()

    connect = registration.connect
    monkeypatch.setattr(registration, "connect", sweep)
    sleeps.then = lambda _number: codes.append(registrar.status.code)
    await kubelet.start()
    device.run()
    await kubelet.until_list(REAL.epc)
    assert codes == ["plugin-socket-removed"]
    assert len(kubelet.requests) == 1
    assert kubelet.failed_dial_backs == 0


async def test_what_listens_and_speaks_no_grpc_is_named(sleeps, registrar, device, directory, monkeypatch):
    monkeypatch.setattr(registration, "CONNECT_SECONDS", 0.05)
    tried = asyncio.Event()
    sleeps.then = lambda _number: tried.set()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(directory / "kubelet.sock"))
        mute.listen()
        device.run()
        await asyncio.wait_for(tried.wait(), 20)
        assert registrar.status.code == "kubelet-without-grpc"
    assert not registrar.status.registered


@pytest.mark.parametrize("loses_device", [False, True])
async def test_a_directory_that_vanishes_and_comes_back(kubelet, sleeps, device, directory, loses_device):
    device.run()
    await kubelet.start()
    await kubelet.until_list(REAL.epc)
    if loses_device:
        await device.take()
    await kubelet.stop()
    shutil.rmtree(directory)
    missed = asyncio.Event()
    sleeps.then = lambda _number: missed.set()
    device.mark_available()
    await asyncio.wait_for(missed.wait(), 20)
    directory.mkdir()
    await kubelet.start()
    await kubelet.until_list(REAL.epc, registrations=2)
    assert kubelet.failed_dial_backs == 0


async def test_closing_ends_streams_and_server_at_once(kubelet, registrar, device, monkeypatch):
    monkeypatch.setattr(endpoint, "STOP_SECONDS", 1000)
    running = device.run()
    await kubelet.start()
    await kubelet.until_list(REAL.epc)
    path = kubelet.endpoint(REAL.epc)
    assert path.is_socket()
    running.cancel()
    async with services.unix_channel(str(path)) as channel:
        plugin = services.DevicePluginStub(channel)
        await plugin.get_device_plugin_options(pb.Empty())
        await registrar.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await plugin.get_device_plugin_options(pb.Empty())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await kubelet.until(lambda: not kubelet.lists[REAL.epc])
    assert not path.exists()
    assert registrar.socket_path is None


async def test_a_device_lost_during_register_ends_the_attempt(kubelet, registrar, device, directory):
    kubelet.admits.clear()
    await kubelet.start()
    device.run()
    await kubelet.until(lambda: kubelet.requests)
    await device.take()
    assert [path.name for path in directory.iterdir()] == ["kubelet.sock"]
    kubelet.admits.set()
    device.mark_available()
    await kubelet.until_list(REAL.epc, registrations=2)
    assert len(kubelet.requests) == 2
    assert kubelet.failed_dial_backs == 0


def test_without_a_descriptor_the_kubelet_and_sockets_are_unknown(directory, monkeypatch):
    exhausted = Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
    path = directory / "kubelet.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert kubelet_socket.kubelet_absence(path) is None
        monkeypatch.setattr(socket, "socket", exhausted)
        assert "Too many open files" in str(kubelet_socket.kubelet_absence(path))
        assert _state(path) is None


async def test_a_failure_inside_is_not_swallowed(registrar, device, monkeypatch):
    monkeypatch.setattr(registration, "kubelet_absence", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(device.run(), 20)


@pytest.mark.parametrize("works", [True, False])
async def test_work_runs_to_its_end_unless_it_is_interrupted(works):
    ended, forever = [], asyncio.Event().wait

    async def work():
        try:
            await (asyncio.sleep(0) if works else forever())
        finally:
            ended.append("work")
        return "done"

    async def fail():
        raise UnavailableError("gone")

    async def interruption():
        try:
            await (forever() if works else asyncio.sleep(0))
        finally:
            ended.append("interruption")

    assert await run_unless(interruption(), work()) == ("done" if works else None)
    assert sorted(ended) == ["interruption", "work"]
    assert await run_unless(forever(), forever(), seconds=0.001) is None
    with pytest.raises(UnavailableError):
        await run_unless(forever(), fail())
