"""How the program of a Job's pod failed. Pure."""

from __future__ import annotations

from confcom.addon.daemons.daemon_log import last_complaint
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, number, text


def job_pod_ending(pod: KubernetesObject) -> str:
    """Return how the program of a Job's pod failed; empty if it did not.

    A Job's pod is not restarted, so that only its container status tells how it ended.
    """
    if text(pod, "status", "phase") != "Failed" or text(pod, "status", "reason"):
        return ""  # the pod's own status has the reason, as for an evicted pod
    for one in listing(pod, "status", "containerStatuses"):
        if ended := mapping(one, "state", "terminated"):
            message = text(ended, "message")
            said = last_complaint(message) or " ".join(message.split())
            return ": ".join(filter(None, ("has failed", f"exit code {number(ended, 'exitCode')}", said)))
    return ""
