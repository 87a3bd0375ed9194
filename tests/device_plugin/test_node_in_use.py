"""A node in use keeps its accounting, and at least the EPC that Pods hold, until these Pods are gone.

A model of scheduler and kubelet follows rules seen on 1.36. A device list replaces the earlier list. The kubelet
leaves a capacity without devices as it is. The kubelet's record names devices of ended containers until the next
allocation. A kubelet that restarts fails Pods that exceed the capacity, or whose devices are no longer listed.
"""

from dataclasses import dataclass, field, replace
from itertools import chain

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

from confcom.controller import decision as controller
from confcom.device_plugin.epc import discover
from confcom.device_plugin.epc_in_use import epc_in_use
from confcom.device_plugin.resources import ResourcePlan, ResourceSettings, plan_resources
from confcom.errors import SettingsError
from confcom.kubelet_api.checkpoint import HeldDevices, decode_checkpoint, encode_checkpoint
from confcom.kubelet_api.device_list import device_id
from confcom.kubernetes.epc_accounting import (
    AccountingSetting,
    AccountingSettings,
    ApiVersion,
    CapacitySupport,
)
from confcom.kubernetes.names import REAL
from testkit.hosts.fake import FakeHost

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


@dataclass
class NodeModel:
    """A node without I/O. The real code of plugin and controller makes the decisions. Amounts are in MiB."""

    total: int
    settings: ResourceSettings
    maximum: int = 1 << 20
    """The controller's maximum of EPC per node."""
    plan: ResourcePlan | None = None
    lists: dict[str, int] = field(default_factory=dict)
    """Number of devices that the kubelet has from the plugin, keyed by resource."""
    capacity: int | None = None
    """The EPC capacity in the node's status; None if the status has none."""
    pods: dict[str, int] = field(default_factory=dict)
    """EPC of the running Pods, keyed by the Pod's name."""
    held: list[HeldDevices] = field(default_factory=list)

    @property
    def requested(self):
        return sum(self.pods.values())

    def in_use(self):
        registered = {name: map(device_id, range(count)) for name, count in self.lists.items()}
        record = decode_checkpoint(encode_checkpoint(registered, self.held))
        return epc_in_use(record, epc_resource=REAL.epc, enclave_resource=REAL.enclave, epc_mib=self.total)

    def start_plugin(self):
        """Let the plugin plan and register again; if the plugin refuses to start, its earlier plan stays."""
        found = discover(FakeHost(), simulated_epc_mib=self.total)
        try:
            self.plan = plan_resources(found, self.settings, self.in_use())
        except SettingsError:
            return
        self.register()

    def register(self):
        if self.plan is None:
            return
        had_devices = REAL.epc in self.lists
        self.lists = {one.name: one.count for one in self.plan.resources}
        if REAL.epc in self.lists:
            self.capacity = self.lists[REAL.epc]
        elif had_devices:
            self.capacity = None  # in this model, None is the kubelet's 0, which the controller overwrites
        self.reconcile()

    def reconcile(self):
        """Apply the controller's decision if the cluster has a controller."""
        if self.plan is None or self.settings.accounting.support is not CapacitySupport.SUPPORTED:
            return
        node = controller.NodeFacts("n", "u", (controller.Amount(self.capacity, self.capacity, ours=True),))
        asked = (controller.Requested(self.requested, self.requested),)
        rules = controller.Rules((REAL.epc,), self.maximum, 300)
        plugins = controller.Plugins(1, (self.plan.offer,))
        for change in controller.decide(node, plugins, asked, (1000.0,), rules).changes:
            self.capacity = change.mib

    def run_pod(self, name, mib):
        """Schedule and admit a Pod if it fits; the Pod gets the free devices with the highest numbers."""
        if self.capacity is None or self.requested + mib > self.capacity:
            return
        self.held = [one for one in self.held if one.pod in self.pods]
        resource, count = (REAL.epc, mib) if REAL.epc in self.lists else (REAL.enclave, 1)
        taken = {one for holding in self.held if holding.resource == resource for one in holding.ids}
        free = [one for one in map(device_id, reversed(range(self.lists.get(resource, 0)))) if one not in taken]
        if len(free) >= count:
            self.held.append(HeldDevices(name, "main", resource, tuple(free[:count])))
            self.pods[name] = mib

    def end_pod(self, name):
        self.pods.pop(name)
        self.reconcile()

    def restart_kubelet(self, *, forgets=False, plugin_too=False):
        """Restart the kubelet without devices (and without resources if it `forgets`); return failed Pods."""
        self.lists = {} if forgets else dict.fromkeys(self.lists, 0)
        if plugin_too:
            self.start_plugin()
        else:
            self.register()
        admitted, failed = 0, []
        for name, mib in self.pods.items():
            held = [one.ids for one in self.held if (one.pod, one.resource) == (name, REAL.epc)]
            ids = set(chain.from_iterable(held))
            fits = self.capacity is None or admitted + mib <= self.capacity
            listed = set(map(device_id, range(self.lists.get(REAL.epc, 0))))
            if fits and ids <= listed and (ids or REAL.epc not in self.lists):
                admitted += mib
            else:
                failed.append(name)
        return failed


class NodeInUse(RuleBasedStateMachine):
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


def reserve(node, mib):
    node.settings = replace(node.settings, reserve_mib=mib)


def accounting(node, **change):
    node.settings = replace(node.settings, accounting=replace(node.settings.accounting, **change))


DEVICES, CAPACITY = AccountingSetting.DEVICES, AccountingSetting.CAPACITY
CAPACITY_NODE, DEVICE_NODE = (1_048_576, ResourceSettings(SUPPORTED), 917_504), (168, ResourceSettings(), 100)
"""Node models: MiB of the node, its settings, and MiB that a Pod holds."""
CHANGES = {
    "less EPC on a capacity node": (CAPACITY_NODE, lambda node: setattr(node, "total", 1_024)),
    "a reserve on a capacity node": (CAPACITY_NODE, lambda node: reserve(node, 1_048_000)),
    "a reserve of all": (CAPACITY_NODE, lambda node: reserve(node, 1_048_576)),
    "a maximum on a capacity node": (CAPACITY_NODE, lambda node: accounting(node, max_epc_mib=1_024)),
    "devices on a capacity node": (CAPACITY_NODE, lambda node: accounting(node, setting=DEVICES)),
    "no controller": (CAPACITY_NODE, lambda node: accounting(node, support=CapacitySupport.CONTROLLER_OFF)),
    "less EPC on a device node": (DEVICE_NODE, lambda node: setattr(node, "total", 28)),
    "a reserve on a device node": (DEVICE_NODE, lambda node: reserve(node, 100)),
    "a reserve of more than all": (DEVICE_NODE, lambda node: reserve(node, 1_000)),
    "a larger helper": (DEVICE_NODE, lambda node: setattr(node, "settings", ResourceSettings(helper_mib=50))),
    "a maximum on a device node": (DEVICE_NODE, lambda node: accounting(node, max_epc_mib=10)),
    "capacity on a device node": (DEVICE_NODE, lambda node: accounting(node, setting=CAPACITY)),
}


@pytest.mark.parametrize(("before", "change"), CHANGES.values(), ids=CHANGES)
def test_a_lower_amount_waits_for_the_pods(before, change):
    *before, mib = before
    node = NodeModel(*before)
    node.start_plugin()
    kind = node.plan.offer.kind
    node.run_pod("holds", mib)
    change(node)
    for forgets in (False, True):
        node.start_plugin()
        assert node.plan.offer.kind is kind
        assert node.capacity >= mib
        assert node.restart_kubelet(forgets=forgets, plugin_too=forgets) == []

    node.end_pod("holds")
    node.held.clear()
    node.start_plugin()
    fresh = NodeModel(node.total, node.settings)
    fresh.start_plugin()
    if fresh.plan is not None:  # a plugin with nothing to offer makes no plan
        offer, expected = node.plan.offer, fresh.plan.offer
        assert (offer.kind, offer.advertised_mib) == (expected.kind, expected.advertised_mib)
