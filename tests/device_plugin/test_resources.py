from dataclasses import replace

import pytest

from confcom.device_plugin.epc import discover
from confcom.device_plugin.resources import Resource, ResourceKind, ResourceSettings, plan_resources
from confcom.errors import SettingsError
from confcom.kubernetes.epc_accounting import (
    AccountingKind,
    AccountingReason,
    AccountingSetting,
    AccountingSettings,
    CapacitySupport,
    EpcInUse,
    parse_api_version,
)
from testkit.expected_errors import raises
from testkit.hosts.fake import FakeHost


def found(mib, *, provision="/dev/null"):
    return replace(discover(FakeHost(), simulated_epc_mib=mib), provision_node=provision)


def test_names_and_counts():
    assert plan_resources(found(168), ResourceSettings(), EpcInUse()).resources == (
        Resource(ResourceKind.EPC, "kubernetes.azure.com/sgx_epc_mem_in_MiB", 162),
        Resource(ResourceKind.ENCLAVE, "sgx.intel.com/enclave", 1024),
        Resource(ResourceKind.PROVISION, "sgx.intel.com/provision", 1024),
        Resource(ResourceKind.HELPER, "confcom.internal/quote_helper_epc_mem_in_MiB", 6),
    )


def test_no_resource_without_what_it_stands_for():
    plan = plan_resources(found(168, provision=None), ResourceSettings(helper_mib=0), EpcInUse())
    assert [resource.kind for resource in plan.resources] == [ResourceKind.EPC, ResourceKind.ENCLAVE]


@pytest.mark.parametrize(("mib", "advertised"), [(2053, 2047), (2054, 2048), (2055, 2048), (262_144, 2048)])
def test_the_default_maximum_stalls_no_kubelet(mib, advertised):
    plan = plan_resources(found(mib), ResourceSettings(), EpcInUse())
    assert (plan.offer.advertised_mib, plan.offer.held_back_mib) == (advertised, mib - 6 - advertised)
    assert plan.offer.kubelet_stall_seconds <= 0.51
    assert f"{advertised} of {mib} MiB" in plan.offer.reason


CAPACITY = AccountingSettings(setting=AccountingSetting.CAPACITY)


def test_capacity_has_no_device_of_epc_and_all_others():
    plan = plan_resources(found(262_144), ResourceSettings(accounting=CAPACITY), EpcInUse())
    assert [resource.kind for resource in plan.resources] == [
        ResourceKind.ENCLAVE,
        ResourceKind.PROVISION,
        ResourceKind.HELPER,
    ]
    offer = plan.offer
    assert (offer.kind, offer.advertised_mib, offer.held_back_mib) == (AccountingKind.CAPACITY, 262_138, 0)
    assert (offer.kubelet_stall_seconds, offer.resource) == (0, "kubernetes.azure.com/sgx_epc_mem_in_MiB")
    assert offer.resource in plan.claimed_names


def test_many_devices_stall_no_kubelet_before_1_36():
    settings = AccountingSettings(api_server=parse_api_version("1.35"))
    plan = plan_resources(found(300_000), ResourceSettings(accounting=settings), EpcInUse())
    assert (plan.resources[0].count, plan.offer.held_back_mib) == (262_144, 300_000 - 6 - 262_144)
    assert (plan.offer.kubelet_stall_seconds, plan.offer.choice) == (0, AccountingReason.API_SERVER_OLD)


def test_what_is_in_use_decides_the_plan():
    settings = AccountingSettings(api_server=parse_api_version("1.36"), support=CapacitySupport.SUPPORTED)
    plan = plan_resources(found(10_000), ResourceSettings(accounting=settings), EpcInUse(devices=4_096, doubt="why"))
    assert (plan.resources[0].count, plan.offer.held_back_mib, plan.doubt) == (4_096, 10_000 - 6 - 4_096, "why")
    assert plan.offer.kubelet_stall_seconds > 1


@pytest.mark.parametrize(("mib", "reserve", "held"), [(168, 100, 162), (28, 0, 162), (28, 1_000, 22)])
def test_what_containers_hold_is_offered_and_counted_as_kept(mib, reserve, held):
    in_use = EpcInUse(162, devices_held=True, held_count=held)
    plan = plan_resources(found(mib), ResourceSettings(reserve_mib=reserve), in_use)
    assert plan.resources[0].count == plan.offer.advertised_mib == held
    assert plan.offer.kept_mib == held - max(mib - 6 - reserve, 0)
    assert f"{plan.offer.kept_mib} are more than the settings allow" in plan.offer.reason


def test_without_anything_left_a_node_in_use_needs_a_count_of_what_is_held():
    settings = ResourceSettings(reserve_mib=200)
    assert plan_resources(found(100), settings, EpcInUse(capacity_held=True)).offer.advertised_mib == 0
    for unknown in (EpcInUse(devices_held=True, doubt="why"), EpcInUse(enclaves_held=True)):
        with raises("no-epc-left", SettingsError):
            plan_resources(found(100), settings, unknown)


@pytest.mark.parametrize(("mib", "reserve"), [(6, 0), (1, 0), (100, 94), (100, 200)])
def test_a_node_that_would_have_nothing_to_offer_is_refused(mib, reserve):
    for accounting in (AccountingSettings(), CAPACITY):
        with raises("no-epc-left", SettingsError):
            plan_resources(found(mib), ResourceSettings(accounting=accounting, reserve_mib=reserve), EpcInUse())
