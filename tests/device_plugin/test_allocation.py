import pytest

from confcom.device_plugin.allocation import AllocationError, Allocator
from confcom.device_plugin.epc import Discovery, EpcSource, Platform
from confcom.device_plugin.resources import ResourceKind, ResourceSettings, plan_resources
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import device_id
from confcom.kubernetes.epc_accounting import EpcInUse
from confcom.kubernetes.inventory import FoundEpc
from confcom.sgx.epc_from_cpuid import MIB

HARDWARE = Discovery(
    Platform.HARDWARE, FoundEpc(EpcSource.SYSFS, "", 262 * MIB, 262), "/dev/sgx/enclave", "/dev/sgx/provision"
)
RESOURCES = plan_resources(HARDWARE, ResourceSettings(), EpcInUse()).resources

ALLOCATORS = {resource.kind: Allocator(resource, HARDWARE, mounts_aesmd=True) for resource in RESOURCES}
EPC = ALLOCATORS[ResourceKind.EPC]
PLATFORM = {"CONFCOM_SGX_PLATFORM": "hardware"}


def request(*containers):
    return pb.AllocateRequest(
        container_requests=[pb.ContainerAllocateRequest(devices_ids=identifiers) for identifiers in containers]
    )


def devices(answer):
    return [(device.container_path, device.host_path, device.permissions) for device in answer.devices]


@pytest.mark.parametrize(
    ("kind", "budget", "device", "aesm"),
    [
        (ResourceKind.EPC, {"CONFCOM_SGX_EPC_MIB": "2"}, "enclave", True),
        (ResourceKind.ENCLAVE, {}, "enclave", True),
        (ResourceKind.PROVISION, {}, "provision", False),
        (ResourceKind.HELPER, {"CONFCOM_SGX_EPC_MIB": "2"}, "enclave", False),
    ],
)
def test_what_each_resource_brings(kind, budget, device, aesm):
    asked = request(["AAA", "AAB"])
    (answer,) = ALLOCATORS[kind].allocate(asked).container_responses
    assert ALLOCATORS[kind].allocate(asked).container_responses == [answer]
    assert dict(answer.envs) == PLATFORM | budget
    assert devices(answer) == [(f"/dev/sgx{mark}{device}", f"/dev/sgx/{device}", "rw") for mark in "_/"]
    mount = pb.Mount(container_path="/var/run/aesmd", host_path="/var/run/aesmd", read_only=True)
    assert list(answer.mounts) == [mount] * aesm
    assert answer == pb.ContainerAllocateResponse(envs=answer.envs, devices=answer.devices, mounts=answer.mounts)


def test_each_container_has_its_own_answer():
    first, second = EPC.allocate(request(["AAA"], ["AAB", "AAC"])).container_responses
    assert (first.envs["CONFCOM_SGX_EPC_MIB"], second.envs["CONFCOM_SGX_EPC_MIB"]) == ("1", "2")
    assert EPC.allocate(request()) == pb.AllocateResponse()


def test_without_an_aesm_directory_nothing_is_mounted():
    alone = Allocator(RESOURCES[0], HARDWARE, mounts_aesmd=False)
    (answer,) = alone.allocate(request(["AAA"])).container_responses
    assert not answer.mounts


@pytest.mark.parametrize(
    ("containers", "code", "named"),
    [
        ([[]], "devices-refused", ""),
        ([["AAA", "AAA"]], "devices-refused", ""),
        ([["AAA"], ["AAA"]], "devices-refused", ""),
        ([[device_id(256)]], "devices-refused", "'AEA'"),
        ([["---"]], "devices-refused", "'---'"),
        ([["AA"]], "devices-refused", "'AA'"),
        ([["nonsense and more of it" * 1000]], "devices-refused", "'nonsense and mor'"),
        ([["ÄÖÜ"]], "devices-refused", "'ÄÖÜ'"),
    ],
)
def test_what_cannot_be_allocated_is_refused_and_named(containers, code, named):
    with pytest.raises(AllocationError) as caught:
        EPC.allocate(request(*containers))
    assert caught.value.error_code == code
    assert named in str(caught.value)
    assert "sgx_epc_mem_in_MiB" in str(caught.value)
    assert len(str(caught.value)) < 300
