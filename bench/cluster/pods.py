"""How long pods take to start, with EPC and without; and how much EPC is held when pods quote."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from bench.cluster.timeline import allocated, gone, started
from bench.cluster.watch import watching
from e2e.add_on import EPC, SYSTEM
from e2e.cluster import Cluster, Node
from e2e.images_workshop import references
from e2e.plugins import waiting_container
from e2e.waiting import until

EPC_MIB = 10
"""Of a pod that starts with EPC, as in the example."""
HELPER_EPC = "confcom.internal/quote_helper_epc_mem_in_MiB"
START_SECONDS, END_SECONDS = 120.0, 120.0
"""For a pod to be ready, and to be gone, on a machine that is busy."""
QUOTE_LINE = "quote: "
"""What the sample workload prints when it has its quote."""


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds from a pod's creation until it was ready; the pods of a pair started one after the other."""

    without: tuple[float, ...]
    with_epc: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """EPC of one node, in MiB, while applications quote out of process.

    Args:
        applications: how many pods there are, each of which has had a quote.
        helpers: what the quote helper's pods hold.
        pods: what the applications' pods hold, for enclaves of their own.
    """

    applications: int
    helpers: int
    pods: int


def start_pairs(cluster: Cluster, node: Node, namespace: str, pairs: int) -> Starts:
    """Start pods in turn, with EPC and without, of one image on one node, with nothing else in the namespace."""
    took: dict[str, list[float]] = {"without": [], "with": []}
    here = f"--namespace={namespace}"
    with watching(cluster, f"/api/v1/namespaces/{namespace}/pods") as watch:
        for number in range(pairs):
            for kind in took if number % 2 == 0 else reversed(took):
                name = f"{kind}-{number}"
                manifest = json.dumps(_pod(name, node, epc=kind == "with"))
                cluster.kubectl("create", here, "--filename=-", input=manifest)
                seconds = watch.wait(
                    functools.partial(started, name=name), f"the pod {name} is ready", seconds=START_SECONDS
                )
                took[kind].append(seconds)
                cluster.kubectl("delete", here, "pod", name, "--wait=false", "--grace-period=1")
                watch.wait(functools.partial(gone, name=name), f"{name} is gone", seconds=END_SECONDS)
    return Starts(tuple(took["without"]), tuple(took["with"]))


def _pod(name: str, node: Node, *, epc: bool) -> dict[str, object]:
    container = waiting_container(EPC, EPC_MIB)
    if not epc:
        del container["resources"]
    spec = {"nodeSelector": {"kubernetes.io/hostname": node.name}, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def held_by(cluster: Cluster, node: Node, namespace: str, applications: int) -> Held:
    """Start so many applications on a node, and look at what it has given away when each has had its quote.

    They stay; the next call adds what is missing to so many.
    """
    here = f"--namespace={namespace}"
    there = {pod["metadata"]["name"] for pod in _pods(cluster, namespace)}
    wanted = [f"application-{number}" for number in range(applications)]
    items = [_application(name, node) for name in wanted if name not in there]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", here, "--filename=-", input=manifest)

    def quoted() -> bool:
        logs = cluster.kubectl(
            "logs", here, "--selector=app=application", f"--max-log-requests={applications}", check=False
        )
        return logs.stdout.count(QUOTE_LINE) == applications

    until(quoted, f"{applications} applications have a quote", seconds=START_SECONDS)
    pods = [*_pods(cluster, namespace), *_pods(cluster, SYSTEM)]
    return Held(applications, allocated(pods, node.name, HELPER_EPC), allocated(pods, node.name, EPC))


def _application(name: str, node: Node) -> dict[str, object]:
    container = {
        "name": "main",
        "image": references("sample-workload")[0],
        "imagePullPolicy": "Never",
        "args": ["--hold", "3600"],
        "env": [{"name": "SGX_AESM_ADDR", "value": "1"}],
        "resources": {"limits": {EPC: 1}},
    }
    spec = {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/hostname": node.name},
        "containers": [container],
    }
    metadata = {"name": name, "labels": {"app": "application"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]
    return found
