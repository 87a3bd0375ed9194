"""How a node's device plugin counts its EPC, as its `/inventory` tells, and what it is told by its flags. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.model.chart_objects import (
    SUPPORT_FLAG,
    VERSION_FLAG,
    Component,
    component_of,
    flag_of,
    number_in_flag,
)
from confcom.addon.model.resources import allocatable, offered
from confcom.kubernetes.epc_accounting import (
    DEFAULT_MAX_EPC_DEVICES,
    AccountingKind,
    AccountingReason,
    AccountingSetting,
    AccountingSettings,
    CapacitySupport,
    EpcInUse,
    parse_api_version,
)
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    mapping,
    name_of,
    node_of,
    number,
    owner_of,
    text,
)

MOST_NODES = 20
"""Maximum number of device plugins that `status` asks, each with its own kubectl: as many as the nodes that get a row.
In larger clusters these are examples of each kind of node."""
EXAMPLES = 4
"""How many nodes of a kind are asked in larger clusters: one tells how its kind counts, unless its plugin fails."""
KEPT = frozenset({AccountingReason.KEPT_DEVICES, AccountingReason.KEPT_ALLOCATED})
"""The plugin would count differently if the kubelet did not know the EPC already."""


@dataclass(frozen=True, slots=True)
class PluginEpc:
    """A node's EPC as its device plugin found and offers it, in MiB."""

    found: int
    offered: int
    """To tenants: without what is set aside, reserved or held back."""
    held_back: int
    kind: AccountingKind
    choice: str
    """The code of why it is this kind."""
    reason: str

    @property
    def tenants(self) -> int:
        """What is for tenants, also if some of it is held back."""
        return self.offered + self.held_back

    @property
    def in_use(self) -> EpcInUse:
        """What the kubelet knows of it, if no container holds any."""
        return EpcInUse(devices=self.offered if self.kind is AccountingKind.DEVICE else 0)

    @property
    def change_possible(self) -> bool:
        """Whether the plugin kept devices where it would choose capacity anew, if the cluster can count it."""
        kept = self.kind is AccountingKind.DEVICE and self.choice in KEPT
        return kept and self.tenants > DEFAULT_MAX_EPC_DEVICES

    def to_json(self) -> dict[str, object]:
        """Return the accounting for `--output json`."""
        return {"kind": self.kind, "choice": self.choice, "reason": self.reason, "held_back_mib": self.held_back}


@dataclass(frozen=True, slots=True)
class EpcSeen:
    """What the nodes' device plugins told.

    Args:
        plugins: by node.
        unread: by node that was asked, why its plugin did not tell.
    """

    plugins: Mapping[str, PluginEpc] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)


def accounting_settings(plugin: KubernetesObject) -> AccountingSettings:
    """Return what a device plugin's DaemonSet tells it of the accounting, by its flags."""
    setting, support = flag_of(plugin, "--accounting"), flag_of(plugin, SUPPORT_FLAG)
    try:
        api_server = parse_api_version(flag_of(plugin, VERSION_FLAG))
    except ValueError:
        api_server = None
    return AccountingSettings(
        AccountingSetting(setting) if setting in tuple(AccountingSetting) else AccountingSetting.AUTO,
        api_server,
        CapacitySupport(support) if support in tuple(CapacitySupport) else CapacitySupport.OFFLINE,
        number_in_flag(plugin, "--max-epc-mib"),
    )


def plugin_epc(inventory: KubernetesObject) -> PluginEpc | None:
    """Return the EPC in the document of a device plugin's `/inventory`; None if it waits for SGX, or tells no kind."""
    accounting, kinds = mapping(inventory, "accounting"), {kind.value: kind for kind in AccountingKind}
    kind = kinds.get(text(accounting, "kind"))
    found = number(inventory, "epc", "mib")
    if kind is None or not found:
        return None
    return PluginEpc(
        found=found,
        offered=number(accounting, "advertised_mib"),
        held_back=number(accounting, "held_back_mib"),
        kind=kind,
        choice=text(accounting, "choice"),
        reason=text(accounting, "reason"),
    )


def ready_plugins(pods: Sequence[KubernetesObject]) -> Mapping[str, KubernetesObject]:
    """Return by node the newest device plugin's pod that is ready, of the pods of the add-on's namespace."""
    ready = [
        pod
        for pod in pods
        if component_of(pod) is Component.DEVICE_PLUGIN
        and condition(pod, "Ready").get("status") == "True"
        and not text(pod, "metadata", "deletionTimestamp")
    ]
    return {node_of(pod): pod for pod in sorted(ready, key=lambda pod: text(pod, "metadata", "creationTimestamp"))}


def nodes_to_ask(nodes: Sequence[KubernetesObject], plugins: Mapping[str, KubernetesObject]) -> tuple[str, ...]:
    """Return the nodes whose device plugins are asked: all, or of more than MOST_NODES some EXAMPLES of each kind.

    Nodes are of one kind if one DaemonSet serves them and their status has the same amounts of our resources.
    """
    seen = Counter[object]()
    ranked = []
    for node in sorted(nodes, key=name_of):
        if plugin := plugins.get(name_of(node)):
            amounts = [(name, count, allocatable(node, name)) for name, count in sorted(offered(node).items())]
            kind = (text(owner_of(plugin), "name"), *amounts)
            ranked.append((seen[kind], name_of(node)))
            seen[kind] += 1
    most = EXAMPLES if len(ranked) > MOST_NODES else MOST_NODES
    return tuple(name for rank, name in sorted(ranked)[:MOST_NODES] if rank < most)
