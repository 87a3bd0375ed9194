"""The Job that makes a node's hardware report: its manifest, and what has become of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.daemons.daemon_events import last_warning
from confcom.addon.daemons.daemon_pods import PodState, pod_reason
from confcom.addon.daemons.job_pods import job_pod_ending
from confcom.addon.model.chart_objects import ADD_ON, COMPONENT_LABEL, NAME_LABEL
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    has_failed,
    name_of,
    of_kind,
    owner_of,
    text,
)

COMPONENT = "hardware-report"
PREFIX = f"confcom-{COMPONENT}"
_HOST_ROOT = "/host"
_CALLS = 5
"""Calls of the AESM service in a report."""
_REST_SECONDS = 60
"""For what else the report does: it reads files."""
KEPT_SECONDS = 600
"""After its end Kubernetes removes a Job that this program could not remove."""
_STUCK = frozenset({PodState.FAILING, PodState.WAITING})
"""States in which nothing happens by itself: the scheduler must find room on one node, and may not choose another."""
_USER = 10003
"""Nobody else's: not the quote helper's (10001), which owns the directory of the AESM socket."""


@dataclass(frozen=True, slots=True)
class ReportImage:
    """An image with confcom in it, and what pulls it."""

    image: str
    pull_secrets: Sequence[KubernetesObject] = ()


class JobState(StrEnum):
    """The state of a report's Job."""

    WAITING = "waiting"
    FAILING = "failing"
    """Its pod cannot be made, or does not start, and is unlikely to start without intervention."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """What has become of a Job."""

    state: JobState
    reason: str = ""
    """Why it is not done."""
    pod: str = ""


def running_seconds(call_seconds: float) -> int:
    """Return the time limit of a Job from the start of its pod to its end."""
    return int(_CALLS * call_seconds) + _REST_SECONDS


def report_job(
    name: str, node: str, image: ReportImage, *, namespace: str, call_seconds: float, limit: int
) -> KubernetesObject:
    """Return the manifest.

    The pod reads what everybody on the node may read, and nothing else: an own user without capabilities, the node's
    root file system read-only, no devices, no namespaces of the node, no token. It mounts the root, because a container
    runtime makes the directory of a narrower mount on nodes that lack it.

    Args:
        name: the Job's name.
        node: the node that it runs on, whatever its taints.
        image: what it runs.
        namespace: the add-on's namespace.
        call_seconds: the time limit of one call of the AESM service.
        limit: seconds after which the Job fails.
    """
    labels = {NAME_LABEL: ADD_ON, COMPONENT_LABEL: COMPONENT}
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
    container = {
        "name": COMPONENT,
        "image": image.image,
        "command": ["python", "-m", "confcom.hardware_report"],
        "args": [f"--host-root={_HOST_ROOT}", f"--timeout={call_seconds:g}"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "host", "mountPath": _HOST_ROOT, "readOnly": True, "recursiveReadOnly": "IfPossible"}
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "affinity": {"nodeAffinity": required},
        "tolerations": [{"operator": "Exists"}],
        "imagePullSecrets": list(image.pull_secrets),
        "containers": [container],
        "volumes": [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": limit,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def progress_of(job: str, seen: Sequence[KubernetesObject]) -> JobProgress:
    """Return what has become of a Job.

    Args:
        job: its name.
        seen: pods, Jobs and events of its namespace.
    """
    events = of_kind(seen, "Event")
    pods = [one for one in of_kind(seen, "Pod") if text(owner_of(one), "name") == job]
    mine = next((one for one in of_kind(seen, "Job") if name_of(one) == job), None)
    if pods:
        newest = max(pods, key=lambda one: text(one, "metadata", "creationTimestamp"))
        if text(newest, "status", "phase") == "Succeeded":
            return JobProgress(JobState.DONE, pod=name_of(newest))
        state, reason = pod_reason(newest, events)
        if text(newest, "status", "phase") == "Failed":
            return JobProgress(JobState.FAILED, job_pod_ending(newest) or reason, name_of(newest))
        if not (mine and has_failed(mine)):
            return JobProgress(JobState.FAILING if state in _STUCK else JobState.WAITING, reason, name_of(newest))
        return JobProgress(JobState.FAILED, reason, name_of(newest))
    refused = last_warning(job, events)
    if mine and has_failed(mine):
        return JobProgress(JobState.FAILED, refused or text(condition(mine, "Failed"), "message"))
    return JobProgress(JobState.FAILING, refused) if refused else JobProgress(JobState.WAITING, "no Pod yet")
