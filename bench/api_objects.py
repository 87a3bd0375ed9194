"""Nodes and Pods in a plain API server, as large as in a real cluster, for the benchmarks of controller and status."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from e2e.add_on import EPC
from e2e.plain_controller import LABELS, Objects

THREADS = 6
IMAGES = 40
"""Number of image names in a node's status; they make the status 12 kB large, as in a cluster in use."""
PADDING = "x" * 5000
"""Text that makes a Pod 7 kB large, as managed fields, volumes and conditions do."""


def in_parallel(work: Callable[[int], object], numbers: Iterable[int]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, numbers))


def make_node(objects: Objects, number: int, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Create a node with a status as large as a kubelet's, and with these additional amounts."""
    images = [
        {"names": [f"registry.test/path/to/an/image-{image}@sha256:{image:064x}", f"registry.test/image-{image}:1.2.3"]}
        for image in range(IMAGES)
    ]
    conditions = [{"type": kind, "status": "True", "reason": "x", "message": "y" * 60} for kind in ("Ready", "A", "B")]
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110", **more}
    status = {"capacity": amounts, "allocatable": amounts, "images": images, "conditions": conditions}
    metadata = {"name": f"node-{number}", "labels": LABELS}
    objects.send("POST", "/api/v1/nodes", {"metadata": metadata, "status": status})


def make_pod(objects: Objects, number: int, nodes: int) -> None:
    """Create a Pod that is bound to node number modulo `nodes`; every tenth Pod requests EPC."""
    metadata = {"name": f"pod-{number}", "namespace": "default", "annotations": {"x": PADDING}}
    resources = {"limits": {EPC: "16"}} if number % 10 == 0 else {}
    container = {"name": "c", "image": "registry.test/none", "resources": resources}
    spec = {"nodeName": f"node-{number % nodes}", "containers": [container]}
    objects.send("POST", "/api/v1/namespaces/default/pods", {"metadata": metadata, "spec": spec})
