"""Kubernetes' events about a daemon: warnings, and why the API server refuses Pods of its DaemonSet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of, owner_of, text, time_of

_HARMLESS_WARNINGS = frozenset({"MissingClusterDNS", "DNSConfigForming", "FailedScheduling"})
"""Warnings that do not keep a pod from starting. A current scheduler warning is also in the pod's own conditions."""
_FAILED_CREATE = "FailedCreate"
"""The reason of the DaemonSet controller's event about a pod that it cannot create."""


def last_warning(name: str, events: Sequence[KubernetesObject]) -> str:
    """Return the latest warning event about an object; empty if there is none."""
    about = [
        event
        for event in events
        if text(event, "involvedObject", "name") == name
        and text(event, "type") == "Warning"
        and text(event, "reason") not in _HARMLESS_WARNINGS
    ]
    latest = max(about, key=event_time, default=None)
    return joined(text(latest, "reason"), text(latest, "message")) if latest else ""


def creation_refusal(
    daemon: KubernetesObject, pods: Iterable[KubernetesObject], events: Sequence[KubernetesObject]
) -> str:
    """Return why the API server refuses pods of a DaemonSet; empty if the controller has created one since.

    The controller retries by itself, with a backoff of up to 17 minutes, and updates its event each time.

    Args:
        daemon: the DaemonSet.
        pods: pods of its namespace, or of all.
        events: events of its namespace.
    """
    name = name_of(daemon)
    failures = [
        one for one in events if text(one, "reason") == _FAILED_CREATE and text(one, "involvedObject", "name") == name
    ]
    mine = [pod for pod in pods if text(owner_of(pod), "name") == name and namespace_of(pod) == namespace_of(daemon)]
    failed = max(filter(None, map(time_of, map(event_time, failures))), default=None)
    created = max(filter(None, (time_of(text(pod, "metadata", "creationTimestamp")) for pod in mine)), default=None)
    if failed and created and failed < created:
        return ""
    return last_warning(name, failures)


def event_time(event: KubernetesObject) -> str:
    """Return when an event was last seen, as the API server writes it."""
    return (
        text(event, "series", "lastObservedTime")
        or text(event, "lastTimestamp")
        or text(event, "eventTime")
        or text(event, "metadata", "creationTimestamp")
    )


def joined(first: str, second: str) -> str:
    """Return both texts with a colon between them, or the one that is not empty."""
    return f"{first}: {second}" if first and second else first or second
