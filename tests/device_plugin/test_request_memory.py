import asyncio
import signal
from pathlib import Path

import grpc
import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from confcom.kubelet_api.device_list import MAX_CONTAINERS, device_id, max_allocate_bytes
from confcom.kubernetes.epc_accounting import MAX_DEVICES
from confcom.kubernetes.names import REAL

EPC = REAL.epc

MIB = 1024
"""One MiB in KiB, because /proc reports memory in KiB."""
LIMIT = 128 * MIB
"""The chart's memory limit for the plugin, in KiB."""
AT_ONCE = 40
HUGE = {
    "long IDs": [pb.ContainerAllocateRequest(devices_ids=["x" * 1000] * 3_700)],
    "empty containers": [pb.ContainerAllocateRequest()] * 1_850_000,
}
"""Contents of Allocate requests; each request has 3.7 MB."""


def peak_memory(pid):
    """Highest memory use of a process so far (VmHWM), in KiB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


def whole(count, *, containers):
    shares = [pb.ContainerAllocateRequest() for _ in range(containers)]
    for index in range(count):
        shares[index % containers].devices_ids.append(device_id(index))
    return pb.AllocateRequest(container_requests=shares)


def test_whatever_can_be_asked_for_fits_and_hardly_more():
    for count in (1, 6, 28, 1024, 2048, MAX_DEVICES):
        assert max_allocate_bytes(count) <= 5 * count + 100
        assert whole(count, containers=MAX_CONTAINERS).ByteSize() <= max_allocate_bytes(count)


async def test_huge_requests_are_refused_before_they_are_held(kubelet, start_listed):
    plugin = await start_listed("--simulated-epc-mib", "2054", lists=[EPC])
    async with services.unix_channel(str(kubelet.endpoint(EPC))) as channel:
        stub = services.DevicePluginStub(channel)
        for shape, requests in HUGE.items():
            request = pb.AllocateRequest(container_requests=requests)
            assert 3_600_000 < request.ByteSize() < services.RECEIVE_LIMIT
            calls = (stub.allocate(request) for _ in range(AT_ONCE))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {answer.code() for answer in answers} == {grpc.StatusCode.RESOURCE_EXHAUSTED}, shape
    assert peak_memory(plugin.process.pid) < LIMIT
    (answer,) = await kubelet.ask(EPC, kubelet.lists[EPC])
    assert answer.envs["CONFCOM_SGX_EPC_MIB"] == "2048"


async def test_the_largest_list_arrives_and_is_allocated_at_once(kubelet, start_listed):
    arguments = ("--simulated-epc-mib", str(MAX_DEVICES + 6), "--max-epc-mib", str(MAX_DEVICES))
    plugin = await start_listed(*arguments, lists=[EPC])
    assert len(set(kubelet.lists[EPC])) == MAX_DEVICES
    (warning,) = await plugin.logged(seconds_when_all_are_allocated=pytest.approx(8246, abs=1))
    assert warning["level"] == "warning"
    (answer,) = await kubelet.ask(EPC, kubelet.lists[EPC])
    assert answer.envs["CONFCOM_SGX_EPC_MIB"] == str(MAX_DEVICES)
    assert peak_memory(plugin.process.pid) < LIMIT


async def test_what_is_no_request_is_refused_and_not_logged(kubelet, start_listed):
    plugin = await start_listed(lists=[EPC])
    async with services.unix_channel(str(kubelet.endpoint(EPC))) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(services.ALLOCATE)(b"\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await plugin.end(signal.SIGTERM)
    assert [line for line in plugin.lines() if line["level"] in {"error", "warning"}] == []
