"""What a case must leave as it found it: what belongs to the whole cluster, and everybody's pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from e2e.add_on import SIMULATED_LABEL, SYSTEM
from e2e.cluster import Cluster

KINDS = (
    "namespaces",
    "nodes",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "clusterroles",
    "clusterrolebindings",
    "priorityclasses",
    "pods",
)
MUTATING = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
"""Beside KINDS, where the API server has them."""
OWN_NAMESPACES = ("kube-system", SYSTEM)
"""Whose pods come and go by themselves."""
OWN_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Kubernetes' own, of a node that a case has stopped: it goes with the next report of the kubelet."""
OURS, OF_CASES = "confcom-", "confcom-case-"
"""With which the names of all begin that `e2e.add_on.install` brings and cases leave to the next one; and of others."""


def differences(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is there after a case and was not before, and the other way round; without what an installation brings."""
    old, new = (frozenset(_named(items)) for items in (before, after))
    return [*(f"new: {one}" for one in sorted(new - old)), *(f"gone: {one}" for one in sorted(old - new))]


def _named(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    namespaces = [item["metadata"] for item in items if item["kind"] == "Namespace"]
    going = {one["name"] for one in namespaces if "deletionTimestamp" in one}
    for item in items:
        kind, name = item["kind"], item["metadata"]["name"]
        if name.startswith(OURS) and not name.startswith(OF_CASES) and kind not in {"Node", "Pod"}:
            continue
        namespace = item["metadata"].get("namespace", "")
        if kind == "Pod":
            if namespace not in {*OWN_NAMESPACES, *going}:
                yield f"Pod {namespace}/{name}"
        elif kind != "Namespace" or name not in going:
            yield f"{kind} {name}"
        if kind == "Node":
            yield from _written_on(item)


def _written_on(node: Mapping[str, Any]) -> Iterator[str]:
    name = node["metadata"]["name"]
    for label, value in node["metadata"].get("labels", {}).items():
        if label != SIMULATED_LABEL:
            yield f"Node {name}, label {label}={value}"
    for taint in node["spec"].get("taints", []):
        if taint["key"] not in OWN_TAINTS:
            yield f"Node {name}, taint {taint['key']}={taint.get('value', '')}:{taint['effect']}"


def api_objects(cluster: Cluster) -> set[str]:
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    columns = "--output=custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
    found = set()
    for kind in kinds:
        if kind.partition(".")[0] not in {"events", "leases"}:
            listed = cluster.kubectl("get", kind, "--all-namespaces", columns, "--no-headers").stdout
            found |= {f"{kind}/{'/'.join(line.split())}" for line in listed.splitlines()}
    return found
