"""Whatever changes, a node in use keeps its accounting and at least what is held until its Pods are gone."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from confcom.device_plugin.resources import ResourceSettings
from confcom.kubernetes.epc_accounting import (
    AccountingSetting,
    AccountingSettings,
    ApiVersion,
    CapacitySupport,
)
from testkit.node_model import NodeModel

NEW = ApiVersion(1, 36)
SIZES = st.sampled_from([28, 168, 2_500])
SUPPORTED = AccountingSettings(api_server=NEW, support=CapacitySupport.SUPPORTED)
CHANGED = st.one_of(
    st.tuples(st.just("reserve_mib"), st.sampled_from([0, 10, 120, 5_000])),
    st.tuples(st.just("helper_mib"), st.sampled_from([0, 3, 30])),
    st.tuples(st.just("max_epc_mib"), st.sampled_from([None, 1, 100, 4_096])),
    st.tuples(st.just("setting"), st.sampled_from(AccountingSetting)),
    st.tuples(st.just("support"), st.sampled_from([CapacitySupport.SUPPORTED, CapacitySupport.CONTROLLER_OFF])),
)


class NodeInUse(RuleBasedStateMachine):
    """Settings, hardware, Pods and restarts in any order."""

    @initialize(total=SIZES)
    def install(self, total):
        self.node, self.names = NodeModel(total, ResourceSettings(SUPPORTED)), 0
        self.node.start_plugin()

    @rule(total=SIZES)
    def change_hardware(self, total):
        self.node.total = total
        self.node.start_plugin()

    @rule(changed=CHANGED)
    def change_settings(self, changed):
        name, value = changed
        if hasattr(self.node.settings, name):
            self.node.settings = replace(self.node.settings, **{name: value})
        else:
            accounting(self.node, **{name: value})
        self.node.start_plugin()

    @rule(part=st.sampled_from([0.1, 0.5, 1.0]))
    def run(self, part):
        self.names += 1
        free = (self.node.capacity or 0) - self.node.requested
        self.node.run_pod(f"pod-{self.names}", max(1, int(free * part)))

    @precondition(lambda self: self.node.pods)
    @rule(data=st.data())
    def end(self, data):
        self.node.end_pod(data.draw(st.sampled_from(sorted(self.node.pods))))

    @rule(forgets=st.booleans(), plugin_too=st.booleans())
    def restart(self, forgets, plugin_too):
        assert not self.node.restart_kubelet(forgets=forgets, plugin_too=plugin_too or forgets)

    @invariant()
    def offers_at_least_what_is_requested(self):
        assert self.node.capacity is None or self.node.requested <= self.node.capacity


def test_a_node_in_use_keeps_what_its_pods_hold():
    how = settings(max_examples=60, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(NodeInUse, settings=how)


def capacity_node():
    return NodeModel(1_048_576, ResourceSettings(SUPPORTED))


def device_node():
    return NodeModel(168, ResourceSettings())


def reserve(node, mib):
    node.settings = replace(node.settings, reserve_mib=mib)


def accounting(node, **change):
    node.settings = replace(node.settings, accounting=replace(node.settings.accounting, **change))


CHANGES = {
    "less EPC on a capacity node": (capacity_node, 917_504, lambda node: setattr(node, "total", 1_024)),
    "a reserve on a capacity node": (capacity_node, 917_504, lambda node: reserve(node, 1_048_000)),
    "a reserve of all": (capacity_node, 917_504, lambda node: reserve(node, 1_048_576)),
    "a maximum on a capacity node": (capacity_node, 917_504, lambda node: accounting(node, max_epc_mib=1_024)),
    "devices on a capacity node": (
        *(capacity_node, 917_504),
        lambda node: accounting(node, setting=AccountingSetting.DEVICES),
    ),
    "no controller": (capacity_node, 917_504, lambda node: accounting(node, support=CapacitySupport.CONTROLLER_OFF)),
    "less EPC on a device node": (device_node, 100, lambda node: setattr(node, "total", 28)),
    "a reserve on a device node": (device_node, 100, lambda node: reserve(node, 100)),
    "a reserve of more than all": (device_node, 100, lambda node: reserve(node, 1_000)),
    "a larger helper": (device_node, 100, lambda node: setattr(node, "settings", ResourceSettings(helper_mib=50))),
    "a maximum on a device node": (device_node, 100, lambda node: accounting(node, max_epc_mib=10)),
    "capacity on a device node": (
        *(device_node, 100),
        lambda node: accounting(node, setting=AccountingSetting.CAPACITY),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_lower_amount_waits_for_the_pods(name):
    make, mib, change = CHANGES[name]
    node = make()
    node.start_plugin()
    kind = node.plan.accounting.kind
    node.run_pod("holds", mib)
    change(node)
    for forgets in (False, True):
        node.start_plugin()
        assert node.plan.accounting.kind is kind
        assert node.capacity >= mib
        assert node.restart_kubelet(forgets=forgets, plugin_too=forgets) == []

    node.end_pod("holds")
    node.held.clear()
    node.start_plugin()
    fresh = NodeModel(node.total, node.settings)
    fresh.start_plugin()
    if fresh.plan is not None:  # it refuses a node that would have nothing to offer
        assert (node.plan.accounting.kind, node.plan.advertised_mib) == (
            fresh.plan.accounting.kind,
            fresh.plan.advertised_mib,
        )
