"""The cause why a Pod is unschedulable if taints keep it off the nodes that offer what it requests. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from confcom.addon.model.node_selection import taints_against
from confcom.addon.model.problems import Cause, shown
from confcom.kubernetes.objects import KubernetesObject, name_of

_CORDONED = "node.kubernetes.io/unschedulable"
_AWAY = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
_UNWELL = _AWAY | {
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/pid-pressure",
}
"""Taints that Kubernetes removes when the node's condition ends. A toleration does not help: Pods on such a node are
evicted."""


def taint_cause(spec: KubernetesObject, chosen: Sequence[KubernetesObject]) -> Cause:
    """Return the cause for nodes with taints; it names the nodes that can be used soonest.

    For example, a cordon is undone faster than a toleration is written.
    """
    keys = {name_of(node): {one.partition("=")[0] for one in taints_against(spec, node)} for node in chosen}
    if cordoned := [node for node, found in keys.items() if found == {_CORDONED}]:
        return Cause(
            f"the nodes that offer the requested resource are cordoned ({shown(cordoned)})",
            f"it starts after kubectl uncordon {cordoned[0]}",
            code="nodes-cordoned",
        )
    away = [node for node, found in keys.items() if found & _AWAY]
    if len(away) == len(keys):
        return Cause(
            f"the nodes that offer the requested resource are not Ready ({shown(away)})",
            f"bring {shown(away)} back",
            code="nodes-not-ready",
        )
    unwell = [node for node, found in keys.items() if found & _UNWELL]
    if len(unwell) == len(keys):
        conditions = sorted({key for found in keys.values() for key in found & _UNWELL})
        return Cause(
            f"the nodes that offer the requested resource have condition taints {', '.join(conditions)} "
            f"({shown(unwell)})",
            f"it starts when a node has recovered: see kubectl describe node {unwell[0]}",
            code="nodes-not-well",
        )
    own = {node: found - {_CORDONED} for node, found in keys.items() if node not in unwell}
    names = sorted({key for found in own.values() for key in found})
    tolerations = ", ".join(f"{{key: {key}, operator: Exists}}" for key in names)
    return Cause(
        f"it does not tolerate the taints {', '.join(names)} of the nodes that offer the requested resource "
        f"({shown(list(own))})",
        f"write into the Pod's template: tolerations: [{tolerations}]",
        code="taints-not-tolerated",
    )
