"""Tests those parts of the demo's device manager that the contract suite cannot test on a real kubelet."""

import asyncio

import grpc
import grpc.aio
import pytest

from confcom.demo.device_manager import merge
from confcom.demo.ledger import AdmissionError, DeviceLedger
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubernetes.names import extended_resource
from testkit.kubelet import Kubelet

RESOURCE = "example.com/thing"


@pytest.fixture
async def kubelet(short_dir):
    made = Kubelet(short_dir)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def plugin(kubelet, plugins):
    """A plugin with four healthy devices; the kubelet has received the list of devices."""
    made = await plugins(kubelet.directory, ids=("a", "b", "c", "d"))
    await made.register()
    await kubelet.until_list(RESOURCE)
    return made


async def test_the_kubelets_own_socket_is_no_plugins(kubelet, plugin):
    asked = plugin.options_asked
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.register(endpoint="kubelet.sock")
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert plugin.options_asked == asked


async def test_nothing_asked_for_is_nothing_allocated(kubelet, plugin):
    await kubelet.allocate("p", "c", {RESOURCE: 0})
    assert plugin.allocations == []
    assert kubelet.ledger.allocated(RESOURCE) == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_plugin_that_is_lost_before_it_answers_fails_the_pod(kubelet, plugin, cancelled):
    plugin.answers.clear()
    allocating = asyncio.create_task(kubelet.allocate("p", "c", {RESOURCE: 1}))
    await asyncio.wait_for(plugin.asked(), 20)
    if cancelled:
        allocating.cancel()
    else:
        plugin.end_streams()
    with pytest.raises(asyncio.CancelledError if cancelled else AdmissionError):
        await asyncio.wait_for(allocating, 20)
    plugin.answers.set()


def test_of_several_answers_the_first_wins():
    first = pb.ContainerAllocateResponse(
        envs={"A": "1"},
        devices=[pb.DeviceSpec(container_path="/dev/x", host_path="/dev/null", permissions="rw")],
        mounts=[pb.Mount(container_path="/m", host_path="/h", read_only=True)],
    )
    second = pb.ContainerAllocateResponse(
        envs={"A": "2", "B": "3"},
        devices=[pb.DeviceSpec(container_path="/dev/x", host_path="/dev/zero", permissions="r")],
        mounts=[pb.Mount(container_path="/m", host_path="/other"), pb.Mount(container_path="/n", host_path="/h")],
    )
    merged = merge([first, second])
    assert merged.envs == {"A": "1", "B": "3"}
    assert list(merged.devices) == list(first.devices)
    assert list(merged.mounts) == [*first.mounts, second.mounts[1]]


@pytest.mark.parametrize(
    ("name", "extended"),
    [
        ("kubernetes.azure.com/sgx_epc_mem_in_MiB", True), ("sgx.intel.com/epc", True), ("example.com/a-b.c_d", True),
        ("cpu", False), ("kubernetes.io/x", False), ("a.kubernetes.io/x", False), ("requests.example.com/x", False),
        ("example.com/" + "x" * 63, True), ("example.com/" + "x" * 64, False), ("example.com/", False), ("/x", False),
        ("a/b/c", False), ("EXAMPLE.com/x", False), ("x" * 250 + ".com/a", False), ("example.com/-x", False),
    ],
)  # fmt: skip
def test_resource_names_of_device_plugins(name, extended):
    assert extended_resource(name) is extended


@pytest.mark.parametrize(
    ("requests", "fits"),
    [({}, True), ({"a/a": 0}, True), ({"a/a": 2}, True), ({"a/a": 3}, False), ({"a/a": 1, "n/n": 1}, False)],
)
def test_requests_of_several_resources(requests, fits):
    ledger = DeviceLedger()
    ledger.replace("a/a", {"x": True, "y": True, "ill": False})
    assert ledger.fits(requests) is fits
    assert ledger.allocate("p", "main", "n/n", 1) == ()
