import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.device_plugin.discovery.epc_discovery import Discovery, Platform
from confcom.device_plugin.discovery.epc_sources import EpcSection, EpcSource
from confcom.device_plugin.resources import Resource, ResourceKind, ResourceSettings, plan_resources
from confcom.errors import SettingsError
from confcom.sgx.epc_from_cpuid import MIB


def found(mib, *, provision="/dev/null"):
    return Discovery(Platform.SIMULATED, EpcSource.SIMULATED, "", (EpcSection(0, mib * MIB),), "/dev/null", provision)


def test_names_and_counts():
    assert plan_resources(found(168)).resources == (
        Resource(ResourceKind.EPC, "kubernetes.azure.com/sgx_epc_mem_in_MiB", 162),
        Resource(ResourceKind.ENCLAVE, "sgx.intel.com/enclave", 1024),
        Resource(ResourceKind.PROVISION, "sgx.intel.com/provision", 1024),
        Resource(ResourceKind.HELPER, "confcom.internal/quote_helper_epc_mem_in_MiB", 6),
    )


def test_no_resource_without_what_it_stands_for():
    plan = plan_resources(found(168, provision=None), ResourceSettings(helper_mib=0))
    assert [resource.kind for resource in plan.resources] == [ResourceKind.EPC, ResourceKind.ENCLAVE]


@pytest.mark.parametrize("mib", [28, 56, 112, 168])
def test_helpers_take_a_small_part_of_the_smallest_nodes(mib):
    plan = plan_resources(found(mib))
    assert plan.advertised_mib == mib - 6 >= 0.75 * mib


@pytest.mark.parametrize(("mib", "advertised"), [(2053, 2047), (2054, 2048), (2055, 2048), (262_144, 2048)])
def test_the_default_maximum_is_what_a_kubelet_takes_without_stalling(mib, advertised):
    plan = plan_resources(found(mib))
    assert (plan.advertised_mib, plan.held_back_mib) == (advertised, mib - 6 - advertised)
    assert plan.stall_seconds <= 0.51


def test_the_reason_names_every_part():
    settings = ResourceSettings(max_epc_devices=100, reserve_mib=20, helper_mib=5)
    assert plan_resources(found(200), settings).reason == (
        "100 of 200 MiB are advertised, a device per MiB; 10 are set aside for 2 quote helpers; 20 are reserved; "
        "70 are held back: the plugin advertises at most 100 devices"
    )


@pytest.mark.parametrize(("mib", "reserve"), [(6, 0), (1, 0), (100, 94), (100, 200)])
def test_a_node_that_would_have_nothing_to_offer_is_refused_with_the_remedy(mib, reserve):
    with pytest.raises(SettingsError) as caught:
        plan_resources(found(mib), ResourceSettings(reserve_mib=reserve))
    assert caught.value.error_code == "no-epc-left"


@given(st.integers(1, 1_000_000), st.integers(1, 262_144), st.integers(0, 1000), st.integers(0, 1000))
def test_nothing_is_lost_or_invented(mib, maximum, reserve, helper):
    settings = ResourceSettings(max_epc_devices=maximum, reserve_mib=reserve, helper_mib=helper)
    try:
        plan = plan_resources(found(mib), settings)
    except SettingsError:
        assert mib <= reserve + 2 * helper
        return
    assert plan.advertised_mib + plan.set_aside_mib + plan.reserved_mib + plan.held_back_mib == mib
    assert 1 <= plan.resources[0].count == plan.advertised_mib <= maximum
    assert str(mib) in plan.reason
    assert sum(resource.count for resource in plan.resources if resource.kind is ResourceKind.HELPER) == 2 * helper
