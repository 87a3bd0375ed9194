"""Simulated nodes with different EPC in one cluster.

The chart gives all nodes the same EPC. For each other size, its DaemonSet of the device plugin is copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import add_on
from e2e.add_on import COMPONENT, EPC, SIMULATED_LABEL, SYSTEM, is_ready
from e2e.cluster import Cluster, Node
from e2e.confcom_command import PLUGIN, SET_ASIDE_MIB, AddOn
from e2e.images_workshop import REGISTRY
from e2e.waiting import until

SIZE_LABEL = "example.com/epc-mib"
"""The node label by which the DaemonSets of different sizes select their nodes."""
HERE = f"--namespace={SYSTEM}"


@dataclass(frozen=True, slots=True)
class SizedNode:
    """A simulated node.

    Args:
        node: the node.
        epc_mib: its EPC.
        held_back_mib: how much of it is not offered, since a kubelet cannot have so many devices.
    """

    node: Node
    epc_mib: int
    held_back_mib: int = 0

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def offered_mib(self) -> int:
        """MiB offered to tenants."""
        return self.epc_mib - SET_ASIDE_MIB - self.held_back_mib

    def is_offered(self, cluster: Cluster) -> bool:
        """Whether the node offers all of it."""
        wanted = str(self.offered_mib)
        found = cluster.kubectl_json("get", "node", self.name)["status"]
        return [found[part].get(EPC) for part in ("capacity", "allocatable")] == [wanted, wanted]

    def write(self, cluster: Cluster, amount: str | None) -> None:
        """Write the node's capacity and allocatable as somebody else than the controller may; None removes them."""
        patch = json.dumps({"status": {part: {EPC: amount} for part in ("capacity", "allocatable")}})
        cluster.kubectl("patch", "node", self.name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def join(self, cluster: Cluster) -> None:
        """Label the node, so that it gets the daemons."""
        size = f"{SIZE_LABEL}={self.epc_mib}"
        cluster.kubectl("label", "node", self.name, f"{SIMULATED_LABEL}=true", size, "--overwrite")

    def leave(self, cluster: Cluster) -> None:
        """Remove the labels, so that the node loses the daemons."""
        cluster.kubectl("label", "node", self.name, f"{SIMULATED_LABEL}-", f"{SIZE_LABEL}-")

    def plugins(self, cluster: Cluster) -> list[dict[str, Any]]:
        """The pods of the node's device plugins."""
        chosen = f"--selector={COMPONENT} in ({PLUGIN}, {PLUGIN}-{self.epc_mib})"
        found = cluster.kubectl_json("get", "pods", HERE, chosen)["items"]
        return [pod for pod in found if pod["spec"].get("nodeName") == self.name]

    def plugin(self, cluster: Cluster) -> dict[str, Any] | None:
        """The pod of the node's only device plugin, if it is ready."""
        found = self.plugins(cluster)
        return found[0] if len(found) == 1 and is_ready(found[0]) else None


@contextmanager
def sized_nodes(
    cluster: Cluster,
    nodes: Sequence[SizedNode],
    file: Path,
    values: Mapping[str, object] | None = None,
    *,
    serving: Sequence[SizedNode] | None = None,
) -> Iterator[AddOn]:
    """Enable the add-on on nodes that are as if they never had it, before and afterwards.

    Args:
        cluster: where.
        nodes: the nodes; the chart has the size of the first one.
        file: the file for the chart's values, with which `enable` makes the same again.
        values: more of the chart's values.
        serving: the nodes that get the daemons; by default, all.
    """
    chosen = nodes if serving is None else serving
    made = AddOn(cluster, tuple(one.node for one in chosen), 0)
    chart = {"image": {"registry": REGISTRY}, "simulated": {"epcMiB": nodes[0].epc_mib}, **(values or {})}
    if len({one.epc_mib for one in nodes}) > 1:
        chart["devicePlugin"] = {"affinity": _only_on(nodes[0].epc_mib)}
    file.write_text(json.dumps(chart))
    add_on.uninstall(cluster)
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    for node in cluster.nodes:
        add_on.forget(cluster, node)
    try:
        enable(made, chosen, file)
        until(lambda: all(one.is_offered(cluster) for one in chosen), "all nodes offer their EPC")
        yield made
    finally:
        cluster.mend()
        add_on.uninstall(cluster)
        for one in nodes:
            one.leave(cluster)
            add_on.forget(cluster, one.node)


def enable(made: AddOn, nodes: Sequence[SizedNode], file: Path) -> None:
    """Run `confcom enable` with the values of `sized_nodes`, and copy the device plugin for other sizes than the first.

    Nodes of other sizes get their labels last: without a device plugin, `enable` would wait for their quote helper.
    """
    others = [one for one in nodes if one.epc_mib != nodes[0].epc_mib]
    for one in nodes:
        if one in others:
            one.leave(made.cluster)
        else:
            one.join(made.cluster)
    made.confcom("enable", "--simulated", f"--values={file}")
    if others:
        plugin = made.cluster.kubectl_json("get", "daemonset", f"confcom-{PLUGIN}", HERE)
        for mib in sorted({one.epc_mib for one in others}):
            made.cluster.kubectl("create", "--filename=-", input=json.dumps(_copy(plugin, mib)))
    for one in others:
        one.join(made.cluster)


def _only_on(epc_mib: int) -> dict[str, object]:
    here = {"key": SIZE_LABEL, "operator": "In", "values": [str(epc_mib)]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _copy(daemon: dict[str, Any], epc_mib: int) -> dict[str, Any]:
    """Return the DaemonSet for nodes of another size; as its dependent, the copy is deleted with it."""
    component = {COMPONENT: f"{PLUGIN}-{epc_mib}"}
    template, metadata = daemon["spec"]["template"], daemon["metadata"]
    (container,) = template["spec"]["containers"]
    args = [arg for arg in container["args"] if not arg.startswith("--simulated-epc-mib=")]
    pod = template["spec"] | {
        "affinity": _only_on(epc_mib),
        "containers": [container | {"args": [*args, f"--simulated-epc-mib={epc_mib}"]}],
    }
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": f"{metadata['name']}-{epc_mib}",
            "namespace": SYSTEM,
            "labels": metadata["labels"] | component,
            "ownerReferences": [owner],
        },
        "spec": daemon["spec"]
        | {
            "selector": {"matchLabels": daemon["spec"]["selector"]["matchLabels"] | component},
            "template": {
                "metadata": template["metadata"] | {"labels": template["metadata"]["labels"] | component},
                "spec": pod,
            },
        },
    }
