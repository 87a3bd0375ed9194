"""Changes of pods and nodes as durations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.cluster.watch import Change

COMPONENT = "app.kubernetes.io/component"


@dataclass(slots=True)
class PodSeen:
    """A pod as a watch told of it; moments are the watch's.

    Args:
        name: its own.
        component: of the add-on, or empty.
        created: when it was first told of.
        node: where it is, or was last.
        ready: when it was first told to be ready.
        gone: when it was no more.
    """

    name: str
    component: str
    created: float
    node: str = ""
    ready: float | None = None
    gone: float | None = None


def pods_seen(changes: Iterable[Change]) -> dict[str, PodSeen]:
    """All pods by UID."""
    found: dict[str, PodSeen] = {}
    for change in changes:
        about, status = change.changed["metadata"], change.changed.get("status", {})
        component = about.get("labels", {}).get(COMPONENT, "")
        pod = found.setdefault(about["uid"], PodSeen(about["name"], component, change.at))
        pod.node = change.changed["spec"].get("nodeName", pod.node)
        if pod.ready is None and any(
            one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])
        ):
            pod.ready = change.at
        if change.kind == "DELETED":
            pod.gone = change.at
    return found


def told_of(changes: Iterable[Change], names: frozenset[str]) -> bool | None:
    """True when a watch has told of all these pods, else None."""
    return names <= {pod.name for pod in pods_seen(changes).values()} or None


def started(changes: Iterable[Change], name: str) -> float | None:
    """Seconds from a pod's creation until it was ready, if it is."""
    for pod in pods_seen(changes).values():
        if pod.name == name and pod.ready is not None:
            return pod.ready - pod.created
    return None


def gone(changes: Iterable[Change], name: str) -> bool | None:
    """True when a pod is no more, else None."""
    return any(pod.name == name and pod.gone is not None for pod in pods_seen(changes).values()) or None


def updated(changes: Iterable[Change], component: str, since: float) -> dict[str, float] | None:
    """By node, seconds from the first new pod of a component until the last old one was gone.

    Args:
        changes: of the pods of the add-on's namespace.
        component: whose pods.
        since: pods told of later are new.

    Returns:
        None while an old one is there, or a node has no new one that is ready.
    """
    pods = [pod for pod in pods_seen(changes).values() if pod.component == component]
    old = [pod for pod in pods if pod.created <= since and (pod.gone is None or pod.gone > since)]
    new = [pod for pod in pods if pod.created > since]
    took = {}
    for node in {pod.node for pod in old}:
        ends = [pod.gone for pod in old if pod.node == node]
        begins = [pod.created for pod in new if pod.node == node and pod.ready is not None]
        if not begins or None in ends:
            return None
        took[node] = max(end for end in ends if end is not None) - min(begins)
    return took or None


def offered_again(changes: Sequence[Change], resource: str, amount: str, since: float) -> float | None:
    """When a node offered all of a resource again, after it had offered less; None while that has not been.

    Args:
        changes: of one node.
        resource: its name.
        amount: all of it, as the API writes it.
        since: what was before is past.
    """
    less, again = False, None
    for change in changes:
        if change.at <= since:
            continue
        if change.changed["status"].get("allocatable", {}).get(resource) != amount:
            less, again = True, None
        elif less and again is None:
            again = change.at
    return again


def allocated(pods: Iterable[Mapping[str, Any]], node: str, resource: str) -> int:
    """How much of a resource a node's pods hold, as the scheduler counts: limits of all that have not ended."""
    return sum(
        int(container.get("resources", {}).get("limits", {}).get(resource, 0))
        for pod in pods
        if pod["spec"].get("nodeName") == node and pod["status"].get("phase") not in {"Succeeded", "Failed"}
        for container in pod["spec"]["containers"]
    )
