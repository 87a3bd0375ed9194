"""The nodes whose kubelets are restarted: what offers the devices of each, and what its Pods ask for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.cluster.watch import end_group
from bench.device_plugin.go_build import GoPlugin
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.playground.layout import DEVICE_PLUGIN_DIR
from e2e.add_on import EPC
from e2e.cluster import Cluster, Node
from e2e.confcom_command import SET_ASIDE_MIB
from e2e.plugins import Plugins
from e2e.pools import Pool, pools_enabled
from e2e.progress import say
from e2e.waiting import until

CAPACITY_MIB = 262_144
"""256 GiB."""
DEVICES_MIB = 65_536
SMALL_MIB = 28
"""Of the nodes that have the add-on too, and whose Pods have no EPC."""
SHARE = 2
"""The Pods request half of the EPC, of either kind. A kubelet of 1.36 with devices starts in a time proportional to
devices times allocated devices: minutes."""
OTHER, OTHER_DEVICES = "example.com/other", 110
"""Of a plugin that is not ours: a device for each Pod that a node may have."""
OFFERED_SECONDS = 120.0
"""For a kubelet to report what its plugin offers: it does every ten seconds, and takes a second for 65,536 devices."""


class Group(StrEnum):
    """What the Pods of a node have. The add-on's daemons run on the nodes of the first three."""

    CAPACITY = "EPC as capacity"
    OTHER = "a device of another plugin"
    NONE = "no device"
    BARE = "another's device, node without add-on"
    DEVICES = "EPC as devices"


IN_TURN = (Group.CAPACITY, Group.OTHER, Group.NONE, Group.BARE)
"""Whose kubelets are restarted one after the other in each round."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and what each of its Pods asks for."""

    group: Group
    node: Node
    limits: Mapping[str, int]


@contextmanager
def places(cluster: Cluster, groups: Sequence[Group], pods: int, directory: Path) -> Iterator[dict[Group, Place]]:
    """Have everything offered that the Pods of the groups ask for.

    Args:
        cluster: with a node for each group, and without the add-on.
        groups: at least those in turn.
        pods: how many will be on each node.
        directory: for what the plugins write; the cluster sees it too.
    """
    nodes = dict(zip(groups, cluster.nodes, strict=False))
    limits: dict[Group, dict[str, int]] = {
        Group.CAPACITY: {EPC: CAPACITY_MIB // SHARE // pods},
        Group.OTHER: {OTHER: 1},
        Group.NONE: {},
        Group.BARE: {OTHER: 1},
    }
    with ExitStack() as stack:
        pools = [
            Pool("large", nodes[Group.CAPACITY], CAPACITY_MIB + SET_ASIDE_MIB),
            Pool("other", nodes[Group.OTHER], SMALL_MIB),
            Pool("none", nodes[Group.NONE], SMALL_MIB),
        ]
        stack.enter_context(pools_enabled(cluster, pools, directory / "values.json"))
        for group in (Group.OTHER, Group.BARE):
            stack.enter_context(_other_plugin(nodes[group], directory))
            _until_offered(cluster, nodes[group], OTHER, OTHER_DEVICES)
        if Group.DEVICES in groups:
            ours = Plugins(cluster, directory, nodes[Group.DEVICES])
            ours.start(DEVICES_MIB + SET_ASIDE_MIB, [f"--max-epc-mib={DEVICES_MIB}", "--accounting=devices"])
            stack.callback(ours.end, ours.running[-1])
            _until_offered(cluster, nodes[Group.DEVICES], ours.epc, DEVICES_MIB)
            limits[Group.DEVICES] = {ours.epc: DEVICES_MIB // SHARE // pods}
        yield {group: Place(group, nodes[group], limits[group]) for group in groups}


@contextmanager
def _other_plugin(node: Node, directory: Path) -> Iterator[None]:
    """The minimal plugin in Go, with one resource."""
    program = GoPlugin.find().build(say=say)
    answer = directory / "answer"
    answer.write_bytes(pb.ContainerAllocateResponse(envs={"OTHER": "1"}).SerializeToString())
    command = [str(program), "-directory", str(node.inside(DEVICE_PLUGIN_DIR))]
    command += ["-resource", f"{OTHER},{OTHER_DEVICES},{answer}"]
    with (directory / f"other-{node.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        end_group(process)


def _until_offered(cluster: Cluster, node: Node, resource: str, count: int) -> None:
    def offered() -> bool:
        found = cluster.kubectl_json("get", "node", node.name)["status"]["allocatable"].get(resource)
        return found == str(count)

    until(offered, f"{node.name} offers {count} of {resource}", seconds=OFFERED_SECONDS)
