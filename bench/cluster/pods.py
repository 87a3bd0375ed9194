"""Starts of Pods, with EPC and without."""

from __future__ import annotations

import json
import time

from bench.report import Section, in_turn
from e2e.add_on import EPC
from e2e.cluster import Cluster, Node
from e2e.tenants import HOLD, container, pod

POD_MIB = 10
"""EPC of a Pod that starts with EPC, as in the example."""
POD_SECONDS = 120.0
"""For a Pod to be ready, and to be gone, on a machine that is busy."""
WITH, WITHOUT = "with EPC", "without EPC"


def pod_starts(cluster: Cluster, node: Node, namespace: str, pairs: int) -> Section:
    """Start Pods in turn, with EPC and without, of one image on one node: until `kubectl wait` sees it Ready."""
    section = Section("Pod start: one image on one node, in turn, until `kubectl wait` sees it Ready", [WITH, WITHOUT])
    here = f"--namespace={namespace}"
    for number in range(pairs):
        for side in in_turn([WITH, WITHOUT], number):
            name = f"{side.replace(' ', '-').lower()}-{number}"
            limits = {EPC: POD_MIB} if side == WITH else {}
            manifest = json.dumps(pod(name, container("main", limits=limits, program=HOLD), node=node.name))
            began = time.monotonic()
            cluster.kubectl("create", here, "--filename=-", input=manifest)
            ready = ("--for=condition=Ready", f"pod/{name}", f"--timeout={POD_SECONDS:.0f}s")
            cluster.kubectl("wait", here, *ready, timeout=POD_SECONDS + 30)
            section.add(side, "start", "s", time.monotonic() - began)
            cluster.kubectl("delete", here, "pod", name, "--grace-period=1", timeout=POD_SECONDS)
    return section
