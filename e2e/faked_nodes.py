"""Nodes without a machine, for cases that need a hundred: kwok reports them, and their pods, to the real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.add_on import EPC, EPC_MIB, SIMULATED_LABEL
from e2e.cluster import Cluster
from e2e.processes import end
from e2e.waiting import until

TAINT = "e2e.confcom.internal/faked"
"""Only the daemons tolerate it: kwok starts no program, so helm's Job would do nothing there."""
TOLERATIONS = tuple(f"{daemon}.tolerations[0].key={TAINT}" for daemon in ("devicePlugin", "quoteHelper"))
"""For the chart, as `--set` has it."""
MANAGED = {"kwok.x-k8s.io/node": "faked"}
END_SECONDS = 10.0
"""For kwok to end by SIGTERM."""
PRESENT_SECONDS = 60.0
"""For kwok to report every node: a second or two on an idle machine."""
LEASE_SECONDS = 40
"""As a kubelet's."""
MACHINE = {"cpu": "8", "memory": "32Gi", "pods": "110"}
RESOURCES = {
    EPC: EPC_MIB,
    "sgx.intel.com/enclave": "1024",
    "sgx.intel.com/provision": "1024",
    "confcom.internal/quote_helper_epc_mem_in_MiB": "6",
}
"""What the device plugin would offer on each."""
OFFERS = "e2e.confcom.internal/offers-enclave-memory"
"""The annotation of nodes whose device plugin has registered, so to say: before, nobody may offer these resources."""


def _stage(
    name: str, kind: str, expressions: Sequence[tuple[str, str, str]], then: Mapping[str, Any], delay: tuple[int, int]
) -> dict[str, Any]:
    """A rule of kwok: what it does to an object for which each expression has this value (empty: it exists).

    Args:
        name: of the rule.
        kind: of the objects.
        expressions: jq expression, operator, value.
        then: what is done.
        delay: at least and at most, in milliseconds; kwok chooses at random.
    """
    match = [
        {"key": key, "operator": operator, **({"values": [value]} if value else {})}
        for key, operator, value in expressions
    ]
    least, most = delay
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": match},
            "delay": {"durationMilliseconds": least, "jitterDurationMilliseconds": most},
            "next": then,
        },
    }


def _condition(kind: str, status: str) -> str:
    return f'- {{type: {kind}, status: "{status}", lastTransitionTime: {{{{ Now | Quote }}}}}}\n'


def _running(*, ready: bool) -> str:
    """A pod's status, as a template of kwok."""
    status = str(ready)
    conditions = [("Initialized", "True"), ("Ready", status), ("ContainersReady", status)]
    return (
        "phase: Running\nstartTime: {{ Now | Quote }}\nconditions:\n"
        + "".join(_condition(kind, value) for kind, value in conditions)
        + "containerStatuses:\n{{ range .spec.containers }}\n"
        + "- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: faked, restartCount: 0, "
        + f"ready: {status.lower()}, started: true, state: {{running: {{startedAt: {{{{ Now | Quote }}}}}}}}}}\n"
        + "{{ end }}\n"
    )


_ALIVE = (".metadata.deletionTimestamp", "DoesNotExist", "")
_READY = '.status.conditions.[] | select( .type == "Ready" ) | .status'
STAGES = (
    _stage(
        "node-ready",
        "Node",
        [(_READY, "NotIn", "True")],
        {"statusTemplate": "phase: Running\nconditions:\n" + _condition("Ready", "True")},
        (0, 0),
    ),
    _stage(
        "node-offers",
        "Node",
        [(f'.metadata.annotations["{OFFERS}"]', "Exists", ""), (f'.status.allocatable["{EPC}"]', "DoesNotExist", "")],
        {"statusTemplate": json.dumps({"capacity": RESOURCES, "allocatable": RESOURCES})},
        (0, 1000),
    ),
    _stage(
        "pod-starts",
        "Pod",
        [_ALIVE, (".status.phase", "In", "Pending")],
        {"statusTemplate": _running(ready=False)},
        (100, 600),
    ),
    _stage(
        "pod-ready",
        "Pod",
        [_ALIVE, (".status.phase", "In", "Running"), (_READY, "NotIn", "True")],
        {"statusTemplate": _running(ready=True)},
        (200, 2000),
    ),
    _stage("pod-ends", "Pod", [(".metadata.deletionTimestamp", "Exists", "")], {"delete": True}, (100, 2000)),
)
"""Pods run, get ready and end after times that differ from pod to pod, as the daemons' do."""


@contextmanager
def faked_nodes(cluster: Cluster, kwok: Path, count: int, folder: Path) -> Iterator[tuple[str, ...]]:
    """Add faked nodes that simulate SGX, and take them away afterwards.

    Args:
        cluster: where.
        kwok: the program.
        count: how many.
        folder: for its settings and its log.

    Yields:
        The nodes' names.
    """
    names = tuple(f"faked-{number:03}" for number in range(count))
    cluster.kubectl("create", "--filename=-", input=_list_of([_node(name) for name in names]))
    try:
        with _running_kwok(cluster, kwok, folder):
            until(lambda: _all_ready(cluster, names), "the faked nodes are Ready", seconds=PRESENT_SECONDS)
            yield names
    finally:
        cluster.kubectl("delete", "node", *names)
        leases = [f"lease/{name}" for name in names]
        cluster.kubectl("delete", "--namespace=kube-node-lease", "--ignore-not-found", *leases)


def offer(cluster: Cluster, names: Sequence[str]) -> None:
    """Have the nodes offer what their device plugins would."""
    cluster.kubectl("annotate", "nodes", *names, f"{OFFERS}=true")


def _node(name: str) -> dict[str, Any]:
    labels = {SIMULATED_LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": MANAGED},
        "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
        "status": {"capacity": MACHINE, "allocatable": MACHINE},
    }


def _list_of(objects: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def _all_ready(cluster: Cluster, names: Sequence[str]) -> bool:
    ready = {
        node["metadata"]["name"]
        for node in cluster.kubectl_json("get", "nodes")["items"]
        for condition in node["status"].get("conditions", [])
        if (condition["type"], condition["status"]) == ("Ready", "True")
    }
    return ready >= set(names)


@contextmanager
def _running_kwok(cluster: Cluster, kwok: Path, folder: Path) -> Iterator[None]:
    """In the control plane's network, since nothing else of the cluster concerns it."""
    settings = folder / "kwok.json"
    settings.write_text("\n---\n".join(json.dumps(stage) for stage in STAGES))
    ((key, value),) = MANAGED.items()
    command = [
        *("nsenter", f"--target={cluster.pid}", "--net", "--"),
        str(kwok),
        f"--config={settings}",
        f"--kubeconfig={cluster.places.kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={key}={value}",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
    ]
    with (folder / "kwok.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            end(process, END_SECONDS)
