"""DaemonSet pods that the API server refuses to create, for example because of a quota or admission. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confcom.addon.daemons.daemon_pods import event_time, last_warning
from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of, owner_of, text, time_of

_FAILED_CREATE = "FailedCreate"
"""The reason of the DaemonSet controller's event."""


def creation_refusal(
    daemon: KubernetesObject, pods: Iterable[KubernetesObject], events: Sequence[KubernetesObject]
) -> str:
    """Return why the controller cannot create pods of a DaemonSet; empty if it has created one since the failure.

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
