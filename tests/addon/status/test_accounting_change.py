"""Which nodes a new setting changes, by what their device plugins told, and when a node has changed."""

import pytest

from confcom.addon.model.epc_accounting import DEVICES_AT_ONCE, AccountingKind, PluginEpc
from confcom.addon.status.accounting_change import Setting, epc_pods, node_accounting, would_change
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, SYSTEM

LARGE = DEVICES_AT_ONCE + 1


def told(kind, choice, found=DEVICES_AT_ONCE):
    return PluginEpc(found=found, offered=found, held_back=0, kind=kind, choice=choice, reason="")


DEVICES, CAPACITY = AccountingKind.DEVICE, AccountingKind.CAPACITY


@pytest.mark.parametrize(
    ("plugin", "setting", "supported", "changes"),
    [
        (None, Setting.DEVICES, True, True),
        (told(DEVICES, "fits-devices"), Setting.CAPACITY, True, True),
        (told(DEVICES, "fits-devices"), Setting.DEVICES, True, False),
        (told(CAPACITY, "large-epc", LARGE), Setting.DEVICES, True, True),
        (told(CAPACITY, "set"), Setting.CAPACITY, True, False),
        (told(DEVICES, "kept-devices", LARGE), Setting.AUTO, True, False),
        (told(DEVICES, "set", LARGE), Setting.AUTO, True, False),
        (told(CAPACITY, "set"), Setting.AUTO, True, True),
        (told(CAPACITY, "set", LARGE), Setting.AUTO, True, False),
        (told(CAPACITY, "large-epc", LARGE), Setting.AUTO, True, False),
        (told(CAPACITY, "large-epc", LARGE), Setting.AUTO, False, True),
    ],
)
def test_a_setting_changes_what_is_counted_otherwise(plugin, setting, supported, changes):
    assert would_change(plugin, setting, supported=supported) is changes


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
        (told(DEVICES, "set", 64), (64, 64), 80, 40, True),
    ],
)
def test_a_node_has_changed_when_its_status_has_all_of_it(plugin, has, requested, maximum, done):
    pods = [make.pod("app", on="a", limits={EPC: requested})] if requested else []
    one = node_accounting(node(*has), plugin, Setting.AUTO, pods, maximum=maximum)
    assert one.done is done


def test_a_node_that_counts_otherwise_has_not_changed():
    assert not node_accounting(node(64, 64), told(DEVICES, "set", 64), Setting.CAPACITY, []).done
    assert not node_accounting(node(64, 64), None, Setting.CAPACITY, []).done


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
def test_a_record_is_stale_if_no_pod_has_the_device_of_that_accounting(kind, limits, phase, stale):
    setting = Setting.CAPACITY if kind is DEVICES else Setting.DEVICES
    pod = make.pod("app", on="a", limits=limits)
    pod["status"]["phase"] = phase
    one = node_accounting(node(64, 64), told(kind, "kept-allocated", 64), setting, [pod])
    assert one.kept
    assert one.is_stale is stale


def test_pods_with_epc_are_those_of_others_that_run():
    pods = [
        make.pod("app", namespace="shop", on="a", limits={EPC: 1}),
        make.pod("waiting", namespace="shop", limits={EPC: 1}),
        make.pod("other", namespace="shop", on="a"),
        make.pod("helper", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"), limits={EPC: 1}),
    ]
    assert epc_pods(pods) == {"a": ("shop/app",)}
