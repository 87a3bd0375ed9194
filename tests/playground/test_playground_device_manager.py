"""What the contract suite, which also runs here, cannot ask of a real kubelet."""

import asyncio

import grpc
import grpc.aio
import pytest

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
    one = await kubelet(stop_grace_seconds=0.3)
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.capacity() == {RESOURCE: 4})
    return one, plugin


async def test_the_kubelets_own_socket_is_no_plugins(kubelet, plugins):
    one = await kubelet()
    plugin = await plugins(one.directory, ids=IDS)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.register(endpoint="kubelet.sock")
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert plugin.options_asked == 0


async def test_nothing_asked_for_is_nothing_allocated(registered):
    one, plugin = registered
    await one.manager.allocate("p", "c", {RESOURCE: 0})
    assert plugin.allocations == []
    assert one.ledger.lines() == ()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_only_a_plugin_that_is_disconnected_before_it_answers_fails_the_admission(registered, cancelled):
    one, plugin = registered
    plugin.answers.clear()
    allocating = asyncio.create_task(one.manager.allocate("p", "c", {RESOURCE: 1}))
    await asyncio.wait_for(plugin.asked(), 20)
    if cancelled:
        allocating.cancel()
    else:
        plugin.end_streams()
    with pytest.raises(asyncio.CancelledError if cancelled else AdmissionError):
        await asyncio.wait_for(allocating, 20)
    plugin.answers.set()


async def test_many_restarts_at_once_and_one_after_another_leave_a_working_socket(kubelet, plugins):
    one = await kubelet()
    await asyncio.gather(*(one.manager.restart() for _ in range(5)))
    for _ in range(5):
        await one.manager.restart()
    plugin = await plugins(one.directory, ids=IDS)
    await plugin.register()
    await one.until(lambda ledger: ledger.allocatable() == {RESOURCE: 4})


async def test_a_resource_that_stays_away_after_a_restart_goes(registered):
    one, _ = registered
    await one.manager.restart()
    await one.until(lambda ledger: ledger.resources == () and ledger.capacity() == {RESOURCE: 0})


async def test_resources_are_bounded(kubelet, plugins):
    one = await kubelet()
    plugin = await plugins(one.directory, ids=IDS)
    for number in range(MAX_RESOURCES):
        await plugin.register(resource=f"example.com/r{number}")
    with pytest.raises(grpc.aio.AioRpcError):
        await plugin.register(resource="example.com/more")
    await plugin.register(resource="example.com/r0")
    await one.until(lambda ledger: len(ledger.capacity()) == MAX_RESOURCES)
