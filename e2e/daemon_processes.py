"""The add-on's daemons as processes of a node, for cases that kill them."""

from __future__ import annotations

import signal

from e2e.cluster import Node
from e2e.confcom_command import HELPER, PLUGIN

CONTROLLER = "controller"
PROGRAMS = {PLUGIN: "confcom.device_plugin", HELPER: "confcom.quote_helper", CONTROLLER: "confcom.controller"}
"""By component, what its process has in its command line."""


def processes_of(node: Node, component: str) -> list[str]:
    """Their numbers on the node; none if it does not run there now."""
    return node.run(["pgrep", "--full", PROGRAMS[component]], check=False).stdout.split()


def kill(node: Node, component: str, number: signal.Signals = signal.SIGKILL) -> bool:
    found = processes_of(node, component)
    for pid in found:
        node.run(["kill", f"-{number.value}", pid], check=False)
    return bool(found)
