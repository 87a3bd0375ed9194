"""Which nodes a new setting changes, by what their device plugins told, and when a node has changed."""

from dataclasses import replace

import pytest

from confcom.addon.model.epc_accounting import PluginEpc
from confcom.addon.status.accounting_change import epc_pods, node_accounting, would_change
from confcom.kubernetes.epc_accounting import (
    DEFAULT_MAX_EPC_DEVICES,
    FIRST_STALLING,
    AccountingKind,
    AccountingSetting,
    AccountingSettings,
    CapacitySupport,
)
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, SYSTEM

LARGE = DEFAULT_MAX_EPC_DEVICES + 1


def told(kind, choice, found=DEFAULT_MAX_EPC_DEVICES):
    return PluginEpc(found=found, offered=found, held_back=0, kind=kind, choice=choice, reason="")


DEVICES, CAPACITY = AccountingKind.DEVICE, AccountingKind.CAPACITY
SUPPORTED, POLICY_OFF = CapacitySupport.SUPPORTED, CapacitySupport.POLICY_OFF
AUTO = AccountingSetting.AUTO


@pytest.mark.parametrize(
    ("plugin", "setting", "support", "changes"),
    [
        (None, AccountingSetting.DEVICES, SUPPORTED, True),
        (told(DEVICES, "fits-devices"), AccountingSetting.CAPACITY, SUPPORTED, True),
        (told(DEVICES, "fits-devices"), AccountingSetting.DEVICES, SUPPORTED, False),
        (told(CAPACITY, "large-epc", LARGE), AccountingSetting.DEVICES, SUPPORTED, True),
        (told(CAPACITY, "set"), AccountingSetting.CAPACITY, SUPPORTED, False),
        (told(DEVICES, "kept-devices", LARGE), AUTO, SUPPORTED, False),
        (told(DEVICES, "set", LARGE), AUTO, SUPPORTED, False),
        (told(CAPACITY, "set"), AUTO, SUPPORTED, True),
        (told(CAPACITY, "set", LARGE), AUTO, SUPPORTED, False),
        (told(CAPACITY, "large-epc", LARGE), AUTO, SUPPORTED, False),
        (told(CAPACITY, "large-epc", LARGE), AUTO, POLICY_OFF, True),
        (told(DEVICES, "no-policy", LARGE), AUTO, SUPPORTED, False),
    ],
)
def test_a_setting_changes_what_is_counted_otherwise(plugin, setting, support, changes):
    assert would_change(plugin, AccountingSettings(setting, FIRST_STALLING, support)) is changes


def test_what_tenants_have_decides_and_not_what_was_found():
    aside = replace(told(CAPACITY, "set", LARGE), offered=LARGE - 6)
    assert would_change(aside, AccountingSettings(AUTO, FIRST_STALLING, SUPPORTED))
    held_back = replace(aside, offered=100, held_back=LARGE - 100)
    assert not would_change(held_back, AccountingSettings(AUTO, FIRST_STALLING, SUPPORTED))


def test_a_maximum_changes_what_fits_devices():
    large = told(CAPACITY, "large-epc", 8_192)
    assert would_change(large, AccountingSettings(AUTO, FIRST_STALLING, SUPPORTED, max_epc_mib=1_024))
    assert not would_change(large, AccountingSettings(AUTO, FIRST_STALLING, SUPPORTED, max_epc_mib=4_096))


def node(capacity, allocatable):
    found = make.node("a", make.SIMULATED, resources={EPC: capacity})
    found["status"]["allocatable"][EPC] = str(allocatable)
    return found


@pytest.mark.parametrize(
    ("plugin", "has", "requested", "maximum", "done"),
    [
        (told(CAPACITY, "set", 64), (64, 64), 0, None, True),
        (told(CAPACITY, "set", 64), (64, 0), 0, None, False),
        (told(CAPACITY, "set", 64), (0, 64), 0, None, False),
        (told(CAPACITY, "set", 64), (40, 40), 0, 40, True),
        (told(CAPACITY, "set", 64), (64, 64), 0, 40, False),
        # The controller leaves what Pods request.
        (told(CAPACITY, "set", 64), (80, 80), 80, None, True),
        (told(CAPACITY, "set", 64), (64, 64), 80, None, False),
        # The controller takes nothing away while Pods request more than its maximum.
        (told(CAPACITY, "set", 100), (100, 100), 80, 40, True),
        (told(CAPACITY, "set", 100), (100, 0), 80, 40, False),
        (told(CAPACITY, "set", 100), (40, 40), 80, 40, True),
        (told(CAPACITY, "set", 100), (30, 30), 80, 40, False),
        (told(CAPACITY, "set", 100), (100, 100), 40, 40, False),
        (told(DEVICES, "set", 64), (64, 64), 80, 40, True),
    ],
)
def test_a_node_has_changed_when_its_status_has_all_of_it(plugin, has, requested, maximum, done):
    pods = [make.pod("app", on="a", limits={EPC: requested})] if requested else []
    one = node_accounting(node(*has), plugin, AUTO, pods, namespace=SYSTEM, maximum=maximum)
    assert one.done is done


def test_a_node_that_counts_otherwise_has_not_changed():
    for plugin in (told(DEVICES, "set", 64), None):
        assert not node_accounting(node(64, 64), plugin, AccountingSetting.CAPACITY, [], namespace=SYSTEM).done


@pytest.mark.parametrize(
    ("kind", "limits", "phase", "stale"),
    [
        (DEVICES, {EPC: 1}, "Running", False),
        (DEVICES, {EPC: 1}, "Succeeded", True),
        (DEVICES, {ENCLAVE: 1}, "Running", True),
        (CAPACITY, {ENCLAVE: 1}, "Running", False),
        (CAPACITY, {EPC: 1}, "Running", True),  # as with a policy that was off: it has no device
    ],
)
def test_a_record_is_stale_if_no_pod_has_its_device(kind, limits, phase, stale):
    setting = AccountingSetting.CAPACITY if kind is DEVICES else AccountingSetting.DEVICES
    pod = make.pod("app", on="a", limits=limits)
    pod["status"]["phase"] = phase
    one = node_accounting(node(64, 64), told(kind, "kept-allocated", 64), setting, [pod], namespace=SYSTEM)
    assert one.kept
    assert one.is_stale is stale


def test_pods_with_epc_are_those_of_others_that_run():
    pods = [
        make.pod("app", namespace="shop", on="a", limits={EPC: 1}),
        make.pod("waiting", namespace="shop", limits={EPC: 1}),
        make.pod("other", namespace="shop", on="a"),
        make.pod("helper", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"), limits={EPC: 1}),
    ]
    assert epc_pods(pods, SYSTEM) == {"a": ("shop/app",)}


@pytest.mark.parametrize("component", ["device-plugin", "quote-helper"])
def test_a_tenants_pod_with_our_labels_is_none_of_ours(component):
    theirs = make.pod("sly", namespace="shop", on="a", labels=make.labels(component), limits={EPC: 1})
    assert epc_pods([theirs], SYSTEM) == {"a": ("shop/sly",)}
    one = node_accounting(node(64, 64), told(DEVICES, "set", 64), AUTO, [theirs], namespace=SYSTEM)
    assert (one.helper, one.plugin) == (False, "")
