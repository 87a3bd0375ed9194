"""A node by the rules of scheduler and kubelet, without I/O; device plugin and controller decide by their own code.

The kubelet's rules are those that were seen on 1.36: a list replaces the one before; a capacity that is not of devices
stays as it was written; the record names devices of ended containers until a device is allocated; and a kubelet that
restarts fails Pods that exceed the capacity or hold devices that are not listed any more.
"""

from dataclasses import dataclass, field

from confcom.controller.reconcile import decision as controller
from confcom.device_plugin.discovery.epc_discovery import Discovery, EpcSection, EpcSource, Platform
from confcom.device_plugin.kubelet.epc_in_use import epc_in_use
from confcom.device_plugin.resources import (
    ENCLAVE_RESOURCE,
    EPC_RESOURCE,
    ResourcePlan,
    ResourceSettings,
    plan_resources,
)
from confcom.errors import SettingsError
from confcom.kubelet_api.checkpoint import HeldDevices, decode_checkpoint, encode_checkpoint
from confcom.kubelet_api.device_list import device_id
from confcom.kubernetes.epc_accounting import CapacitySupport
from confcom.sgx.epc_from_cpuid import MIB


def discovered(mib):
    return Discovery(Platform.SIMULATED, EpcSource.SIMULATED, "", (EpcSection(0, mib * MIB),), "/dev/null", None)


@dataclass
class NodeModel:
    """One node; amounts are MiB."""

    total: int
    settings: ResourceSettings
    maximum: int = 1 << 20
    """The controller's."""
    plan: ResourcePlan | None = None
    lists: dict[str, int] = field(default_factory=dict)
    """Devices by resource, as the kubelet has registered them."""
    capacity: int | None = None
    """EPC in the node's status."""
    pods: dict[str, int] = field(default_factory=dict)
    """Running Pods with EPC."""
    held: list[HeldDevices] = field(default_factory=list)

    @property
    def requested(self):
        return sum(self.pods.values())

    def in_use(self):
        registered = {name: map(device_id, range(count)) for name, count in self.lists.items()}
        record = decode_checkpoint(encode_checkpoint(registered, self.held))
        return epc_in_use(record, epc_resource=EPC_RESOURCE, enclave_resource=ENCLAVE_RESOURCE, epc_mib=self.total)

    def start_plugin(self):
        """Decide anew, and register; a plugin that refuses leaves the one before."""
        try:
            self.plan = plan_resources(discovered(self.total), self.settings, self.in_use())
        except SettingsError:
            return
        self.register()

    def register(self):
        if self.plan is None:
            return
        had_devices = EPC_RESOURCE in self.lists
        self.lists = {one.name: one.count for one in self.plan.resources}
        if EPC_RESOURCE in self.lists:
            self.capacity = self.lists[EPC_RESOURCE]
        elif had_devices:
            self.capacity = None  # the kubelet's zero, which the controller overwrites in the end
        self.reconcile()

    def reconcile(self):
        """Carry out the controller's decision, where there is a controller."""
        if self.plan is None or self.settings.accounting.support is not CapacitySupport.SUPPORTED:
            return
        kind = controller.Accounting(self.plan.accounting.kind)
        offer = controller.Offer(kind, EPC_RESOURCE, self.plan.advertised_mib)
        node = controller.NodeFacts("n", "u", (controller.Amount(self.capacity, self.capacity, ours=True),))
        asked = (controller.Requested(self.requested, self.requested),)
        rules = controller.Rules((EPC_RESOURCE,), self.maximum, 300)
        for change in controller.decide(node, controller.Plugins(1, (offer,)), asked, (1000.0,), rules).changes:
            self.capacity = change.mib

    def run_pod(self, name, mib):
        """Schedule and admit a Pod, if it fits; it gets the devices with the highest free numbers."""
        if self.capacity is None or self.requested + mib > self.capacity:
            return
        self.held = [one for one in self.held if one.pod in self.pods]
        resource, count = (EPC_RESOURCE, mib) if EPC_RESOURCE in self.lists else (ENCLAVE_RESOURCE, 1)
        taken = {one for holding in self.held if holding.resource == resource for one in holding.ids}
        free = [one for one in map(device_id, reversed(range(self.lists.get(resource, 0)))) if one not in taken]
        if len(free) >= count:
            self.held.append(HeldDevices(name, "main", resource, tuple(free[:count])))
            self.pods[name] = mib

    def end_pod(self, name):
        self.pods.pop(name)
        self.reconcile()

    def restart_kubelet(self, *, forgets=False, plugin_too=False):
        """Restart the kubelet, and return the Pods that it fails.

        It has no devices until the plugin registers, and after five minutes without one no resources either.
        """
        self.lists = {} if forgets else dict.fromkeys(self.lists, 0)
        if plugin_too:
            self.start_plugin()
        else:
            self.register()
        admitted, failed = 0, []
        for name, mib in self.pods.items():
            ids = {
                one
                for holding in self.held
                if holding.pod == name and holding.resource == EPC_RESOURCE
                for one in holding.ids
            }
            fits = self.capacity is None or admitted + mib <= self.capacity
            listed = set(map(device_id, range(self.lists.get(EPC_RESOURCE, 0))))
            if fits and ids <= listed and (ids or EPC_RESOURCE not in self.lists):
                admitted += mib
            else:
                failed.append(name)
        return failed
