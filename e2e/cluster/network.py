"""The hosts' network: each node's link is plugged into a bridge of the control plane, which routes between pods."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.addresses import (
    CONTROL_PLANE_ADDRESS,
    CONTROL_PLANE_NAME,
    HOST_PREFIX_BITS,
    NodeIdentity,
)
from e2e.cluster.isolation import run

BRIDGE = "nodes"
UPLINK = "eth0"
OUTSIDE = "/proc/1/ns/net"
"""The control plane's, for a node's first process that has no /proc of its own yet."""


def set_up_control_plane(nodes: Sequence[NodeIdentity]) -> None:
    _ip("link set lo up")
    _ip(f"link add {BRIDGE} type bridge")
    _ip(f"address add {CONTROL_PLANE_ADDRESS}/{HOST_PREFIX_BITS} dev {BRIDGE}")
    _ip(f"link set {BRIDGE} up")
    for node in nodes:
        _ip(f"route add {node.pod_network} via {node.address}")
    _forward()
    run("hostname", CONTROL_PLANE_NAME)


def set_up_node(node: NodeIdentity) -> None:
    """Plug a node in, also when the link of its life before is not yet gone."""
    plug = f"node{node.number}"
    outside = ("nsenter", f"--net={OUTSIDE}", "ip", "link")
    subprocess.run([*outside, "delete", plug], capture_output=True, check=False)
    _ip("link set lo up")
    _ip(f"link add {UPLINK} type veth peer name {plug} netns {OUTSIDE}")
    run(*outside, "set", plug, "master", BRIDGE, "up")
    _ip(f"address add {node.address}/{HOST_PREFIX_BITS} dev {UPLINK}")
    _ip(f"link set {UPLINK} up")
    _ip(f"route add default via {CONTROL_PLANE_ADDRESS}")
    _forward()
    run("hostname", node.name)


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _ip(command: str) -> None:
    run("ip", *command.split())
