"""The add-on, enabled on simulated nodes that may have different amounts of EPC in one cluster.

The chart gives all nodes the same amount. For each further size, the device plugin's DaemonSet is copied.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e import add_on
from e2e.add_on import COMPONENT, EPC, HERE, PLUGIN, SIMULATED_LABEL, SYSTEM
from e2e.cluster import Cluster, Node
from e2e.confcom_command import SET_ASIDE_MIB, AddOn
from e2e.images import REGISTRY
from e2e.waiting import until

SIZE_LABEL = "example.com/epc-mib"
"""The node label by which the DaemonSets of different sizes select their nodes."""


@dataclass(frozen=True, slots=True)
class SizedNode:
    node: Node
    epc_mib: int
    held_back_mib: int = 0
    """MiB of EPC that the plugin does not offer, because a kubelet cannot have so many devices."""

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def offered_mib(self) -> int:
        return self.epc_mib - SET_ASIDE_MIB - self.held_back_mib

    def is_offered(self, cluster: Cluster) -> bool:
        wanted = str(self.offered_mib)
        found = cluster.kubectl_json("get", "node", self.name)["status"]
        return [found[part].get(EPC) for part in ("capacity", "allocatable")] == [wanted, wanted]

    def write(self, cluster: Cluster, amount: str | None) -> None:
        """Write the node's capacity and allocatable as a user other than the controller; None removes both."""
        patch = json.dumps({"status": {part: {EPC: amount} for part in ("capacity", "allocatable")}})
        cluster.kubectl("patch", "node", self.name, "--subresource=status", "--type=merge", f"--patch={patch}")


@contextmanager
def enabled(
    cluster: Cluster, nodes: Sequence[SizedNode], values: Mapping[str, object] | None = None
) -> Iterator[AddOn]:
    """Enable the add-on on nodes that have no trace of the add-on, and remove all traces afterwards.

    The chart gets the first node's size, and these additional values.
    """
    first, file = nodes[0].epc_mib, cluster.places.home / "values.json"
    made = AddOn(cluster, tuple(one.node for one in nodes), nodes[0].offered_mib)
    others = [one for one in nodes if one.epc_mib != first]
    chart = {"image": {"registry": REGISTRY}, "simulated": {"epcMiB": first}, **(values or {})}
    if others:
        chart["devicePlugin"] = {"affinity": _only_on(first)}
    file.write_text(json.dumps(chart))
    _clear(cluster)
    try:
        for one in nodes:
            _label(cluster, one)
        made.confcom("enable", "--simulated", f"--values={file}")
        if others:
            plugin = cluster.kubectl_json("get", "daemonset", f"confcom-{PLUGIN}", HERE)
            for mib in sorted({one.epc_mib for one in others}):
                cluster.kubectl("create", "--filename=-", input=json.dumps(_copy(plugin, mib)))
        until(lambda: all(one.is_offered(cluster) for one in nodes), "all nodes offer their EPC")
        yield made
    finally:
        cluster.mend()
        _clear(cluster)


def _clear(cluster: Cluster) -> None:
    add_on.uninstall(cluster)
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-", f"{SIZE_LABEL}-")
    for node in cluster.nodes:
        add_on.forget(cluster, node)


def _label(cluster: Cluster, one: SizedNode) -> None:
    size = f"{SIZE_LABEL}={one.epc_mib}"
    cluster.kubectl("label", "node", one.name, f"{SIMULATED_LABEL}=true", size, "--overwrite")


def _only_on(epc_mib: int) -> dict[str, object]:
    here = {"key": SIZE_LABEL, "operator": "In", "values": [str(epc_mib)]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _copy(daemon: dict[str, Any], epc_mib: int) -> dict[str, Any]:
    """Return a DaemonSet for nodes of another size; it depends on the original and is deleted with it."""
    metadata, spec = daemon["metadata"], copy.deepcopy(daemon["spec"])
    component, pod = {COMPONENT: f"{PLUGIN}-{epc_mib}"}, spec["template"]["spec"]
    for labels in (spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
        labels.update(component)
    pod["affinity"] = _only_on(epc_mib)
    (container,) = pod["containers"]
    args = [arg for arg in container["args"] if not arg.startswith("--simulated-epc-mib=")]
    container["args"] = [*args, f"--simulated-epc-mib={epc_mib}"]
    head = {"apiVersion": "apps/v1", "kind": "DaemonSet"}
    made = {"name": f"{metadata['name']}-{epc_mib}", "namespace": SYSTEM, "labels": metadata["labels"] | component}
    made["ownerReferences"] = [{**head, "name": metadata["name"], "uid": metadata["uid"]}]
    return {**head, "metadata": made, "spec": spec}
