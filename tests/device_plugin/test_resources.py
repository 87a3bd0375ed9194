import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.device_plugin.discovery import Discovery, EpcSection, EpcSource, Platform
from confcom.device_plugin.resources import Resource, ResourceKind, plan_resources
from confcom.sgx.epc import MIB


def found(mib, *, provision="/dev/null"):
    return Discovery(Platform.SIMULATED, EpcSource.SIMULATED, "", (EpcSection(0, mib * MIB),), "/dev/null", provision)


def test_names_and_counts():
    assert plan_resources(found(168)).resources == (
        Resource(ResourceKind.EPC, "kubernetes.azure.com/sgx_epc_mem_in_MiB", 168),
        Resource(ResourceKind.ENCLAVE, "sgx.intel.com/enclave", 1024),
        Resource(ResourceKind.PROVISION, "sgx.intel.com/provision", 1024),
    )


def test_no_provision_resource_without_its_device():
    kinds = [resource.kind for resource in plan_resources(found(168, provision=None)).resources]
    assert kinds == [ResourceKind.EPC, ResourceKind.ENCLAVE]


@pytest.mark.parametrize(("mib", "advertised"), [(2047, 2047), (2048, 2048), (2049, 2048), (262_144, 2048)])
def test_the_default_maximum_is_what_a_kubelet_takes_without_stalling(mib, advertised):
    plan = plan_resources(found(mib))
    assert (plan.advertised_mib, plan.held_back_mib) == (advertised, mib - advertised)


@given(st.integers(1, 1_000_000), st.integers(1, 262_144))
def test_nothing_is_lost_or_invented(mib, maximum):
    plan = plan_resources(found(mib), max_epc_devices=maximum)
    assert plan.advertised_mib + plan.held_back_mib == mib
    assert plan.resources[0].count == plan.advertised_mib <= maximum
    assert str(mib) in plan.reason
    assert ("held back" in plan.reason) == (plan.held_back_mib > 0)
