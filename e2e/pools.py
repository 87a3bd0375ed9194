"""Simulated nodes of several sizes in one cluster: pools of the chart, enabled by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import add_on
from e2e.add_on import EPC, SIMULATED_LABEL, is_ready
from e2e.cluster import Cluster, Node
from e2e.confcom_command import PLUGIN, POOL_LABEL, SET_ASIDE_MIB, AddOn
from e2e.images_workshop import REGISTRY
from e2e.waiting import until


@dataclass(frozen=True, slots=True)
class Pool:
    """Simulated nodes of one size; here it is one node.

    Args:
        name: its own, and its nodes' value of POOL_LABEL.
        node: its node.
        epc_mib: of each node.
        held_back_mib: how much of it is not offered, since a kubelet cannot have so many devices.
    """

    name: str
    node: Node
    epc_mib: int
    held_back_mib: int = 0

    @property
    def plugin(self) -> str:
        """The component of its device plugins."""
        return f"{PLUGIN}-{self.name}"

    @property
    def offered_mib(self) -> int:
        """What tenants can have of a node."""
        return self.epc_mib - SET_ASIDE_MIB - self.held_back_mib

    def is_offered(self, cluster: Cluster) -> bool:
        """Whether the node offers all of it."""
        wanted = str(self.offered_mib)
        found = cluster.kubectl_json("get", "node", self.node.name)["status"]
        return [found[part].get(EPC) for part in ("capacity", "allocatable")] == [wanted, wanted]

    def write(self, cluster: Cluster, amount: str | None) -> None:
        """Write the node's capacity and allocatable as somebody else than the controller may; None removes them."""
        patch = json.dumps({"status": {part: {EPC: amount} for part in ("capacity", "allocatable")}})
        cluster.kubectl("patch", "node", self.node.name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def value(self) -> dict[str, object]:
        """Return the pool as a value of the chart."""
        return {"name": self.name, "nodeSelector": {POOL_LABEL: self.name}, "epcMiB": self.epc_mib}


@contextmanager
def pools_enabled(
    cluster: Cluster,
    pools: Sequence[Pool],
    file: Path,
    values: Mapping[str, object] | None = None,
    *,
    serving: Sequence[Pool] | None = None,
) -> Iterator[AddOn]:
    """Enable the add-on with these pools, on nodes that are as if they never had it, before and afterwards.

    Args:
        cluster: where.
        pools: of the chart.
        file: to write all values to, with which `enable` makes the same again.
        values: more of the chart's.
        serving: whose nodes get the labels, and so the daemons; by default, all.
    """
    chosen = pools if serving is None else serving
    made = AddOn(cluster, tuple(pool.node for pool in chosen), 0)
    simulated = {"pools": [pool.value() for pool in pools]}
    file.write_text(json.dumps({"image": {"registry": REGISTRY}, "simulated": simulated, **(values or {})}))
    add_on.uninstall(cluster)
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    for node in cluster.nodes:
        add_on.forget(cluster, node)
    try:
        for pool in chosen:
            join(cluster, pool)
        enable(made, file)
        until(lambda: all(pool.is_offered(cluster) for pool in chosen), "all pools offer their EPC")
        yield made
    finally:
        cluster.mend()
        add_on.uninstall(cluster)
        cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-", f"{POOL_LABEL}-")
        for pool in pools:
            add_on.forget(cluster, pool.node)


def enable(made: AddOn, file: Path) -> None:
    """Run `confcom enable` with the values of `pools_enabled`; its nodes have their labels."""
    made.confcom("enable", "--simulated", f"--values={file}")


def plugin_of(made: AddOn, pool: Pool) -> dict[str, Any] | None:
    """Return the pool's only device plugin, if it is ready."""
    found = made.all_pods(pool.plugin)
    return found[0] if len(found) == 1 and is_ready(found[0]) else None


def join(cluster: Cluster, pool: Pool) -> None:
    """Have the pool's node in it."""
    cluster.kubectl(
        "label", "node", pool.node.name, f"{SIMULATED_LABEL}=true", f"{POOL_LABEL}={pool.name}", "--overwrite"
    )


def leave(cluster: Cluster, pool: Pool) -> None:
    """Have the pool's node without daemons, and so without a plugin."""
    cluster.kubectl("label", "node", pool.node.name, f"{SIMULATED_LABEL}-", f"{POOL_LABEL}-")
