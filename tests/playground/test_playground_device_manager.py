import asyncio
import socket

import grpc
import grpc.aio
import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import MAX_DEVICES, encode_device_list
from confcom.kubelet_api.services import HEALTHY, RECEIVE_LIMIT, unix_target
from confcom.playground.kubelet.device_manager import MAX_RESOURCES, DeviceManager
from confcom.playground.kubelet.ledger import AdmissionError, DeviceLedger

RESOURCE = "example.com/thing"
IDS = ("a", "b", "c", "d")


class Kubelet:
    """A device manager, its ledger, and a way to wait for a change of it."""

    def __init__(self, directory, **settings):
        self.directory = directory
        self.ledger = DeviceLedger()
        self._changed = asyncio.Event()
        self.manager = DeviceManager(directory, self.ledger, self._changed.set, **settings)

    async def until(self, predicate, seconds=20):
        async with asyncio.timeout(seconds):
            while not predicate(self.ledger):
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def kubelet(short_dir):
    started = []

    async def start(**settings):
        kubelet = Kubelet(short_dir / "dp", **settings)
        await kubelet.manager.start()
        started.append(kubelet)
        return kubelet

    yield start
    for one in started:
        await one.manager.stop()


@pytest.fixture
async def registered(kubelet, plugins):
    """A kubelet and a plugin with four healthy devices whose list has arrived."""
    one = await kubelet(dial_seconds=5)
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.capacity() == {RESOURCE: 4})
    return one, plugin


async def test_a_plugin_registers_is_dialled_back_and_its_list_counts(registered):
    one, plugin = registered
    assert plugin.options_asked == 1
    assert one.ledger.allocatable() == {RESOURCE: 4}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": "v1beta2"}, 'requested API version "v1beta2" is not supported by kubelet. Supported version is'),
        ({"version": ""}, "is not supported by kubelet"),
        ({"resource": "cpu"}, 'the ResourceName "cpu" is invalid'),
        ({"resource": "kubernetes.io/x"}, "is invalid"),
        ({"resource": "example.com/" + "x" * 64}, "is invalid"),
        ({"endpoint": ""}, "is not the name of a socket"),
        ({"endpoint": "../thing.sock"}, "is not the name of a socket"),
        ({"endpoint": "kubelet.sock"}, "is not the name of a socket"),
    ],
)
async def test_registrations_that_are_refused(kubelet, plugins, change, part):
    one = await kubelet()
    plugin = await plugins(one.directory, ids=IDS)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.register(**change)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert part in caught.value.details()
    assert plugin.options_asked == 0
    assert one.ledger.capacity() == {}


async def test_a_plugin_that_does_not_serve_yet_is_refused_within_the_deadline(kubelet, plugins):
    one = await kubelet(dial_seconds=0.2)
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.register()
    assert "failed to dial device plugin" in caught.value.details()
    await plugin.start()
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})


async def test_a_plugin_that_never_answers_is_given_up(kubelet, short_dir):
    one = await kubelet(dial_seconds=0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(one.directory / "silent.sock"))
        silent.listen()
        async with grpc.aio.insecure_channel(unix_target(str(one.directory / "kubelet.sock"))) as channel:
            register = channel.unary_unary(
                "/v1beta1.Registration/Register", pb.RegisterRequest.SerializeToString, pb.Empty.FromString
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await register(pb.RegisterRequest(version="v1beta1", endpoint="silent.sock", resource_name=RESOURCE))
    assert "context deadline exceeded" in caught.value.details()


async def test_each_list_replaces_the_whole(registered):
    one, plugin = registered
    plugin.ids, plugin.unhealthy = ["b", "e"], {"e"}
    plugin.send_list()
    await one.until(lambda ledger: ledger.capacity() == {RESOURCE: 2})
    assert one.ledger.allocatable() == {RESOURCE: 1}
    assert one.ledger.allocate("p", "c", RESOURCE, 1) == ("b",)


async def test_a_lost_stream_keeps_capacity_and_takes_allocatable_then_the_resource_goes(kubelet, plugins):
    one = await kubelet(stop_grace_seconds=0.3)
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})
    plugin.end_streams()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 0})
    assert one.ledger.capacity() == {RESOURCE: 4}
    await one.until(lambda ledger: ledger.resources == () and ledger.capacity() == {RESOURCE: 0})


async def test_a_plugin_that_dies_and_comes_back_in_time_keeps_its_resource(kubelet, plugins):
    one = await kubelet(stop_grace_seconds=300)
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})
    await plugin.stop()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 0})
    await plugin.start()
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})


async def test_the_largest_list_is_received_and_one_byte_more_is_not(kubelet, plugins):
    one = await kubelet()
    plugin = await plugins(one.directory)
    plugin.raw_list = encode_device_list(MAX_DEVICES)
    assert len(plugin.raw_list) == RECEIVE_LIMIT
    await plugin.register()
    await one.until(lambda ledger: ledger.capacity() == {RESOURCE: MAX_DEVICES})
    plugin.raw_list = encode_device_list(MAX_DEVICES - 1) + pb.ListAndWatchResponse(
        devices=[pb.Device(ID="long", health=HEALTHY)]
    ).SerializeToString()  # fmt: skip
    assert len(plugin.raw_list) == RECEIVE_LIMIT + 1
    plugin.send_list()
    # Register succeeded; the kubelet just closes the stream, and the plugin is told nothing.
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 0})
    assert one.ledger.capacity() == {RESOURCE: MAX_DEVICES}


async def test_an_old_instances_end_disconnects_the_new_one_as_to_1_36(registered, plugins):
    one, old = registered
    new = await plugins(one.directory, name="new.sock", ids=("x", "y"))
    await new.register()
    await one.until(lambda ledger: ledger.capacity() == {RESOURCE: 2})
    old.end_streams()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 0})
    await new.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 2})


async def test_allocate_goes_to_the_registered_plugin_with_distinct_free_ids(registered):
    one, plugin = registered
    plugin.response = {
        "envs": {"A": "1"},
        "devices": [pb.DeviceSpec(container_path="/dev/x", host_path="/dev/null", permissions="rw")],
    }
    allocation = await one.manager.allocate("p", "c", {RESOURCE: 3})
    assert allocation.envs == {"A": "1"}
    assert [device.container_path for device in allocation.devices] == ["/dev/x"]
    await one.manager.allocate("q", "c", {RESOURCE: 1})
    assert sorted(i for ids in plugin.allocations for i in ids) == list(IDS)
    with pytest.raises(AdmissionError, match="Requested: 1, Available: 0"):
        await one.manager.allocate("r", "c", {RESOURCE: 1})
    one.ledger.release("p")
    await one.manager.allocate("r", "c", {RESOURCE: 2})
    assert one.ledger.allocated() == {RESOURCE: 3}


async def test_nothing_asked_for_is_nothing_allocated(registered):
    one, plugin = registered
    await one.manager.allocate("p", "c", {})
    await one.manager.allocate("p", "c", {RESOURCE: 0})
    assert plugin.allocations == []


@pytest.mark.parametrize(
    ("flag", "part"),
    [("refuse", "Internal desc = no such device today"), ("no_container_responses", "no containers return")],
)
async def test_a_plugin_that_refuses_fails_the_admission(registered, flag, part):
    one, plugin = registered
    setattr(plugin, flag, True)
    with pytest.raises(AdmissionError, match=part):
        await one.manager.allocate("p", "c", {RESOURCE: 1})


async def test_a_plugin_that_is_disconnected_before_it_answers_fails_the_admission(registered):
    one, plugin = registered
    plugin.answers.clear()
    allocating = asyncio.create_task(one.manager.allocate("p", "c", {RESOURCE: 1}))
    await asyncio.wait_for(plugin.asked(), 20)
    plugin.end_streams()
    with pytest.raises(AdmissionError, match="code = Canceled desc = grpc: the client connection is closing"):
        await asyncio.wait_for(allocating, 20)
    plugin.answers.set()


async def test_a_pod_that_is_cancelled_while_its_plugin_is_asked_is_no_failed_admission(registered):
    one, plugin = registered
    plugin.answers.clear()
    allocating = asyncio.create_task(one.manager.allocate("p", "c", {RESOURCE: 1}))
    await asyncio.wait_for(plugin.asked(), 20)
    allocating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await allocating
    plugin.answers.set()


async def test_a_starting_kubelet_unlinks_every_socket_and_nothing_else(short_dir, kubelet):
    directory = short_dir / "dp"
    directory.mkdir()
    (directory / "checkpoint").write_text("kept")
    (directory / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "stale.sock"))
    await kubelet()
    assert sorted(path.name for path in directory.iterdir()) == ["checkpoint", "folder", "kubelet.sock"]


async def test_a_restart_wipes_sockets_zeroes_capacity_and_remembers_allocations(registered):
    one, plugin = registered
    await one.manager.allocate("p", "c", {RESOURCE: 2})
    await one.manager.restart()
    assert not plugin.socket.exists()
    assert (one.directory / "kubelet.sock").is_socket()
    assert one.ledger.capacity() == {RESOURCE: 0}
    assert one.ledger.allocated() == {RESOURCE: 2}
    await plugin.stop()
    await plugin.start()
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})
    with pytest.raises(AdmissionError, match="Requested: 3, Available: 2"):
        await one.manager.allocate("q", "c", {RESOURCE: 3})


async def test_many_restarts_at_once_and_one_after_another_leave_a_working_socket(kubelet, plugins):
    one = await kubelet()
    await asyncio.gather(*(one.manager.restart() for _ in range(5)))
    for _ in range(5):
        await one.manager.restart()
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})


async def test_a_resource_that_stays_away_after_a_restart_goes(kubelet, plugins):
    one = await kubelet(stop_grace_seconds=0.3)
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})
    await one.manager.restart()
    await one.until(lambda ledger: ledger.resources == () and ledger.capacity() == {RESOURCE: 0})


async def test_resources_are_bounded(kubelet, plugins):
    one = await kubelet()
    plugin = await plugins(one.directory, ids=IDS)
    for number in range(MAX_RESOURCES):
        await plugin.register(resource=f"example.com/r{number}")
    with pytest.raises(grpc.aio.AioRpcError, match=f"there are {MAX_RESOURCES} resources already"):
        await plugin.register(resource="example.com/more")
    await plugin.register(resource="example.com/r0")
    await one.until(lambda ledger: len(ledger.capacity()) == MAX_RESOURCES)
