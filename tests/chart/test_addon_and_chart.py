"""What the add-on reads from the chart's objects on hardware nodes is what the chart writes there."""

import pytest

from confcom.addon.daemons.hardware_helpers import hardware_helpers
from confcom.addon.daemons.root_comparison import follows_root
from confcom.addon.model.chart_objects import (
    HARDWARE_PLATFORM,
    PLATFORM_LABEL,
    Component,
    Plan,
    component_of,
    simulates,
)
from confcom.addon.preflight.hardware_quotes import (
    DevicesSeen,
    ProvisionDevice,
    check_epc_set_aside,
    check_provision_group,
)
from confcom.kubernetes.objects import mapping
from testkit.chart_golden import golden
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC


def plan_of(name):
    return Plan(tuple(golden(name).values()))


def helpers_of(name):
    return [one for one in plan_of(name).daemon_sets if component_of(one) is Component.QUOTE_HELPER]


@pytest.mark.parametrize(
    ("name", "test_root"), [("hardware-aesmd", False), ("hardware-collateral", True), ("beside-hardware", False)]
)
def test_what_makes_the_quotes(name, test_root):
    (found,) = hardware_helpers(plan_of(name).daemon_sets)
    assert (found.daemon_set, found.provider, found.test_root) == ("confcom-quote-helper", "aesmd", test_root)


def test_helpers_of_simulated_nodes_are_none_of_hardware():
    assert hardware_helpers(plan_of("simulated").daemon_sets) == ()


def test_simulated_nodes_follow_the_root_and_hardware_does_not():
    helpers = helpers_of("beside-hardware")
    labels = [mapping(one, "spec", "template", "metadata", "labels")[PLATFORM_LABEL] for one in helpers]
    assert [label == HARDWARE_PLATFORM for label in labels] == [not simulates(one) for one in helpers]
    assert [follows_root(one) for one in helpers] == [simulates(one) for one in helpers]


@pytest.mark.parametrize(
    ("name", "group", "codes"),
    [
        ("hardware-aesmd", 106, ["sgx-prv-group-differs"]),
        ("hardware-collateral", 106, ["sgx-prv-group-differs"]),
        ("hardware-collateral", 123, []),
    ],
)
def test_the_group_of_the_provision_device(name, group, codes):
    seen = DevicesSeen({"m": ProvisionDevice("/dev/sgx_provision", 0o660, group)})
    assert [one.code for one in check_provision_group(plan_of(name), seen)] == codes


def test_epc_that_is_set_aside():
    nodes = [make.node("m", make.HARDWARE, resources={EPC: 28})]
    alone, quoting = plan_of("hardware-plugin-only"), plan_of("hardware-aesmd")
    (finding,) = check_epc_set_aside(quoting, nodes, alone.daemon_sets)
    assert finding.code == "epc-set-aside"
    assert finding.what.startswith("6 MiB")
    assert not [*check_epc_set_aside(alone, nodes, quoting.daemon_sets)]
    assert not [*check_epc_set_aside(quoting, nodes, quoting.daemon_sets)]
    assert not [*check_epc_set_aside(quoting, nodes, ())]
