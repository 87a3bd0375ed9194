"""The nodes whose kubelets are restarted: what offers the devices of each, and what its Pods ask for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
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
SHARE = 2
"""The Pods request half of the EPC, of either kind. A kubelet of 1.36 with devices starts in a time proportional to
devices times allocated devices: minutes."""
OTHER, OTHER_DEVICES = "example.com/other", 110
"""Of a plugin that is not ours: a device for each Pod that a node may have."""
OFFERED_SECONDS = 120.0
"""For a kubelet to report what its plugin offers: it does every ten seconds, and takes a second for 65,536 devices."""


class Group(StrEnum):
    """What the Pods of a node have."""

    CAPACITY = "EPC as capacity"
    OTHER = "a device of another plugin"
    NONE = "no device"
    DEVICES = "EPC as devices"


GROUPS = tuple(Group)
"""A node each, in this order."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and what each of its Pods asks for."""

    group: Group
    node: Node
    limits: Mapping[str, int]


@contextmanager
def places(cluster: Cluster, pods: int, directory: Path) -> Iterator[dict[Group, Place]]:
    """Have everything offered that the Pods of the groups ask for.

    Args:
        cluster: with a node for each group, and without the add-on.
        pods: how many will be on each node.
        directory: for what the plugins write; the cluster sees it too.
    """
    nodes = dict(zip(GROUPS, cluster.nodes, strict=False))
    with ExitStack() as stack:
        pool = Pool("large", nodes[Group.CAPACITY], CAPACITY_MIB + SET_ASIDE_MIB)
        stack.enter_context(pools_enabled(cluster, [pool], directory / "values.json"))
        stack.enter_context(_other_plugin(nodes[Group.OTHER], directory))
        ours = Plugins(cluster, directory, nodes[Group.DEVICES])
        ours.start(DEVICES_MIB + SET_ASIDE_MIB, [f"--max-epc-mib={DEVICES_MIB}", "--accounting=devices"])
        stack.callback(ours.end, ours.running[-1])
        _until_offered(cluster, nodes[Group.OTHER], OTHER, OTHER_DEVICES)
        _until_offered(cluster, nodes[Group.DEVICES], ours.epc, DEVICES_MIB)
        limits: dict[Group, dict[str, int]] = {
            Group.CAPACITY: {EPC: CAPACITY_MIB // SHARE // pods},
            Group.OTHER: {OTHER: 1},
            Group.NONE: {},
            Group.DEVICES: {ours.epc: DEVICES_MIB // SHARE // pods},
        }
        yield {group: Place(group, nodes[group], limits[group]) for group in GROUPS}


@contextmanager
def _other_plugin(node: Node, directory: Path) -> Iterator[None]:
    """The minimal plugin in Go, with one resource."""
    program = GoPlugin.find().build(say=say)
    answer = directory / "answer"
    answer.write_bytes(pb.ContainerAllocateResponse(envs={"OTHER": "1"}).SerializeToString())
    command = [str(program), "-directory", str(node.inside(DEVICE_PLUGIN_DIR))]
    command += ["-resource", f"{OTHER},{OTHER_DEVICES},{answer}"]
    with (directory / "other.log").open("wb") as log:
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
