"""Summaries of healthy nodes, for clusters with too many nodes to list each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confcom.addon.model.sgx_nodes import SgxKind
from confcom.addon.status.node_status import NodeStatus


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """All healthy nodes of one kind."""

    sgx: SgxKind
    resource: str
    """The resource name under which they offer EPC."""
    nodes: int
    capacity: int
    """The sum over all nodes, in MiB; so are the next two."""
    allocatable: int
    used: int
    accounting: Mapping[str, int]
    """Number of nodes by how their EPC is counted, of those whose device plugin told."""
    plugins: Mapping[str, int]
    """Number of nodes by version; there are two versions during an update."""
    helpers: Mapping[str, int]
    provision: Mapping[str, int]
    """Number of nodes by the state of the helper's provision device."""

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        return {
            "sgx": self.sgx,
            "nodes": self.nodes,
            "epc": {
                "resource": self.resource,
                "capacity_mib": self.capacity,
                "allocatable_mib": self.allocatable,
                "used_mib": self.used,
            },
            "accounting": dict(self.accounting),
            "device_plugin": dict(self.plugins),
            "quote_helper": dict(self.helpers),
            "provision_device": dict(self.provision),
        }


def summarised(nodes: Iterable[NodeStatus]) -> tuple[NodeSummary, ...]:
    """Return one summary for each kind of node and EPC resource name; unhealthy nodes are left out."""
    kinds: dict[tuple[SgxKind, str], list[NodeStatus]] = {}
    for node in nodes:
        if node.healthy:
            kinds.setdefault((node.sgx, node.epc.resource), []).append(node)
    return tuple(
        NodeSummary(
            sgx=sgx,
            resource=resource,
            nodes=len(alike),
            capacity=sum(node.epc.capacity for node in alike),
            allocatable=sum(node.epc.allocatable for node in alike),
            used=sum(node.epc.used for node in alike),
            accounting=Counter(str(node.epc.plugin.kind) for node in alike if node.epc.plugin),
            plugins=Counter(pod.version for node in alike for pod in node.plugins[-1:]),
            helpers=Counter(pod.version for node in alike for pod in node.helpers[-1:]),
            provision=Counter(str(node.provision) for node in alike),
        )
        for (sgx, resource), alike in kinds.items()
    )
