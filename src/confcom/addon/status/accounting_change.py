"""A change of how EPC is counted: which nodes it changes, whose Pods are in its way, and when a node has changed. Pure.

A kubelet that knows a resource as devices keeps it for five minutes after the devices are gone, and overwrites every
other amount in the node's status meanwhile. Pods that hold devices keep it from changing for as long as they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from confcom.addon.model.chart_objects import Component, own_component
from confcom.addon.model.epc_accounting import PluginEpc
from confcom.addon.model.resources import SETS, set_of
from confcom.addon.status.stale_resources import KUBELET_KEEPS_SECONDS, REPORT_SECONDS
from confcom.addon.workloads.workloads import used
from confcom.kubernetes.epc_accounting import (
    AccountingKind,
    AccountingReason,
    AccountingSetting,
    AccountingSettings,
    decide_accounting,
)
from confcom.kubernetes.objects import (
    TERMINAL,
    KubernetesObject,
    amount,
    name_of,
    namespace_of,
    node_of,
    requests_of,
    text,
)

FORGETTING_SECONDS = KUBELET_KEEPS_SECONDS + REPORT_SECONDS
"""After so long the kubelet has forgotten the devices, and leaves the node's capacity alone (measured: 310 s)."""


def epc_pods(pods: Iterable[KubernetesObject], namespace: str) -> Mapping[str, tuple[str, ...]]:
    """Return by node the names (`NAMESPACE/NAME`) of the Pods that are bound to it and have EPC.

    Args:
        pods: all Pods; our daemons' are left out.
        namespace: our daemons'.
    """
    found: dict[str, tuple[str, ...]] = {}
    for pod in pods:
        node, ended = node_of(pod), text(pod, "status", "phase") in TERMINAL
        ours = own_component(pod, namespace) is not None
        if node and not ended and not ours and any(requests_of(pod, names.epc) for names in SETS):
            found[node] = (*found.get(node, ()), f"{namespace_of(pod)}/{name_of(pod)}")
    return found


def would_change(told: PluginEpc | None, settings: AccountingSettings) -> bool:
    """Return whether a node's EPC would be counted otherwise, if no container held any: as its plugin will decide.

    Args:
        told: what its device plugin told; None if it did not, and then the node may change.
        settings: what the plugin will be told.
    """
    return told is None or decide_accounting(settings, told.in_use, told.tenants).kind is not told.kind


@dataclass(frozen=True, slots=True)
class NodeAccounting:
    """How far the change is on a node."""

    node: str
    done: bool
    text: str
    told: PluginEpc | None
    kept: bool = False
    """The plugin keeps counting as before, because by the kubelet's record containers hold devices."""
    holders: tuple[str, ...] = ()
    """The Pods that do (`NAMESPACE/NAME`). None: the record names Pods that have ended."""
    helper: bool = False
    """Whether it has a quote helper."""
    plugin: str = ""
    """Its device plugin's Pod."""
    other_device: str = ""
    """A device that a Pod may have without having EPC, however it is counted."""

    @property
    def is_stale(self) -> bool:
        """Whether the plugin keeps counting as before only for Pods that have ended."""
        return self.kept and not self.holders

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        told = self.told
        return {
            "node": self.node,
            "kind": None if told is None else told.kind,
            "choice": None if told is None else told.choice,
            "offered_mib": None if told is None else told.offered,
            "state": self.text,
        }


def node_accounting(
    node: KubernetesObject,
    told: PluginEpc | None,
    setting: AccountingSetting,
    pods: Sequence[KubernetesObject],
    *,
    namespace: str,
    maximum: int | None = None,
    why: str = "",
) -> NodeAccounting:
    """Return how far the change is on a node.

    Args:
        node: the node.
        told: what its device plugin told; None if it did not.
        setting: the new setting.
        pods: those that are bound to it.
        namespace: the add-on's.
        maximum: the most EPC in MiB that the controller gives to a node.
        why: why the plugin did not tell.
    """
    name, names = name_of(node), set_of(node)
    if told is None:
        return NodeAccounting(name, done=False, text=why or "its device plugin is not ready", told=None)
    has = [amount(text(node, "status", part, names.epc)) for part in ("capacity", "allocatable")]
    wanted, left = told.offered, False
    if told.kind is AccountingKind.CAPACITY:
        requested = used(pods, name, names.epc)
        wanted = max(wanted, requested)
        if maximum is not None and wanted > maximum:
            wanted = maximum
            # The controller takes nothing from a node whose Pods request more than its maximum.
            left = requested > maximum and min(has) > maximum
    other = setting.kind not in {None, told.kind}
    done = not other and (left or has == [wanted, wanted])
    if other:
        state = f"{told.kind}: {told.reason}"
    elif not done:
        state = f"{told.kind}: {wanted} MiB are to be there, and the node has {has[0]}"
    else:
        state = f"{told.kind}: {has[0]} MiB"
    return NodeAccounting(
        name,
        done=done,
        text=state,
        told=told,
        kept=told.choice == AccountingReason.KEPT_ALLOCATED and (other or setting.kind is None),
        holders=_holders(pods, names.epc if told.kind is AccountingKind.DEVICE else names.enclave),
        other_device=names.enclave if told.kind is AccountingKind.DEVICE else names.provision,
        helper=any(own_component(pod, namespace) is Component.QUOTE_HELPER for pod in pods),
        plugin=next((name_of(pod) for pod in pods if own_component(pod, namespace) is Component.DEVICE_PLUGIN), ""),
    )


def _holders(pods: Iterable[KubernetesObject], resource: str) -> tuple[str, ...]:
    """Return the Pods that hold devices of a resource."""
    return tuple(
        f"{namespace_of(pod)}/{name_of(pod)}"
        for pod in pods
        if text(pod, "status", "phase") not in TERMINAL and requests_of(pod, resource)
    )


def in_the_way(
    pods: Mapping[str, tuple[str, ...]], told: Mapping[str, PluginEpc], settings: Mapping[str, AccountingSettings]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the nodes that would change while Pods with EPC run there, and the Pods' names.

    Args:
        pods: by node, the names of its Pods with EPC.
        told: by node, what its device plugin told.
        settings: by node, what its device plugin will be told.
    """
    for node, names in sorted(pods.items()):
        if would_change(told.get(node), settings[node]):
            yield node, names
