import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.device_plugin.discovery.epc_discovery import Discovery, Platform
from confcom.device_plugin.discovery.epc_sources import EpcSection, EpcSource
from confcom.device_plugin.kubelet.allocation import AllocationError, Allocator
from confcom.device_plugin.resources import plan_resources
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import device_id
from confcom.sgx.epc import MIB

HARDWARE = Discovery(
    Platform.HARDWARE, EpcSource.SYSFS, "", (EpcSection(0, 262 * MIB),), "/dev/sgx/enclave", "/dev/sgx/provision"
)


def allocator(index):
    return Allocator.of(plan_resources(HARDWARE).resources[index], HARDWARE, aesmd_directory="/run/aesmd")


EPC, ENCLAVE, PROVISION, HELPER = (allocator(index) for index in range(4))


def request(*containers):
    return pb.AllocateRequest(
        container_requests=[pb.ContainerAllocateRequest(devices_ids=identifiers) for identifiers in containers]
    )


def devices(answer):
    return [(device.container_path, device.host_path, device.permissions) for device in answer.devices]


@given(st.sets(st.integers(0, 255), min_size=1))
def test_epc_tells_the_budget_and_never_the_ids(indexes):
    identifiers = [device_id(index) for index in indexes]
    (answer,) = EPC.allocate(request(identifiers)).container_responses
    assert dict(answer.envs) == {"CONFCOM_SGX_EPC_MIB": str(len(indexes)), "CONFCOM_SGX_PLATFORM": "hardware"}
    assert devices(answer) == [
        ("/dev/sgx_enclave", "/dev/sgx/enclave", "rw"),
        ("/dev/sgx/enclave", "/dev/sgx/enclave", "rw"),
    ]
    assert list(answer.mounts) == [pb.Mount(container_path="/var/run/aesmd", host_path="/run/aesmd", read_only=True)]
    assert not answer.annotations
    assert not answer.cdi_devices


def test_enclave_brings_the_device_and_no_budget():
    (answer,) = ENCLAVE.allocate(request(["AAA"])).container_responses
    assert dict(answer.envs) == {"CONFCOM_SGX_PLATFORM": "hardware"}
    assert [name for name, _, _ in devices(answer)] == ["/dev/sgx_enclave", "/dev/sgx/enclave"]
    assert len(answer.mounts) == 1


def test_provision_brings_its_own_device_alone():
    (answer,) = PROVISION.allocate(request(["AAA"])).container_responses
    assert devices(answer) == [
        ("/dev/sgx_provision", "/dev/sgx/provision", "rw"),
        ("/dev/sgx/provision", "/dev/sgx/provision", "rw"),
    ]
    assert not answer.mounts


@pytest.mark.parametrize("other", [EPC, ENCLAVE, HELPER])
def test_only_the_provision_resource_brings_the_provision_device(other):
    (answer,) = other.allocate(request(["AAA"])).container_responses
    assert "provision" not in str(answer)


def test_the_quote_helpers_epc_brings_the_device_and_its_budget_and_no_aesm_directory():
    (answer,) = HELPER.allocate(request(["AAA", "AAB", "AAC"])).container_responses
    assert dict(answer.envs) == {"CONFCOM_SGX_EPC_MIB": "3", "CONFCOM_SGX_PLATFORM": "hardware"}
    assert [name for name, _, _ in devices(answer)] == ["/dev/sgx_enclave", "/dev/sgx/enclave"]
    assert not answer.mounts


def test_each_container_has_its_own_answer():
    first, second = EPC.allocate(request(["AAA"], ["AAB", "AAC"])).container_responses
    assert (first.envs["CONFCOM_SGX_EPC_MIB"], second.envs["CONFCOM_SGX_EPC_MIB"]) == ("1", "2")


def test_the_same_request_has_the_same_answer():
    asked = request(["AAA", "AAB"])
    assert EPC.allocate(asked).SerializeToString(deterministic=True) == EPC.allocate(asked).SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(
    ("containers", "code", "named"),
    [
        ([[]], "no-device-named", ""),
        ([["AAA", "AAA"]], "device-named-twice", ""),
        ([["AAA"], ["AAA"]], "device-named-twice", ""),
        ([[device_id(256)]], "device-unknown", "'AEA'"),
        ([["---"]], "device-unknown", "'---'"),
        ([["AA"]], "device-unknown", "'AA'"),
        ([["AAAA"]], "device-unknown", "'AAAA'"),
        ([["nonsense and more of it" * 1000]], "device-unknown", "'nonsense and mor'"),
        ([["ÄÖÜ"]], "device-unknown", "'ÄÖÜ'"),
    ],
)
def test_what_cannot_be_allocated_is_refused_and_named(containers, code, named):
    with pytest.raises(AllocationError) as caught:
        EPC.allocate(request(*containers))
    assert caught.value.error_code == code
    assert named in str(caught.value)
    assert "sgx_epc_mem_in_MiB" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_empty_request_has_an_empty_answer():
    assert EPC.allocate(request()) == pb.AllocateResponse()
