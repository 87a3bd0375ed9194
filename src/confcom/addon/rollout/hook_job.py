"""Watching the Job that helm waits for before it changes anything else. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.daemons.daemon_log import last_complaint
from confcom.addon.daemons.daemon_pods import PodState, pod_reason
from confcom.addon.model.chart_objects import is_hook
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout import STUCK_SECONDS
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    has_failed,
    listing,
    mapping,
    name_of,
    number,
    of_kind,
    owner_of,
    text,
)


def failed_hooks(jobs: Sequence[KubernetesObject]) -> dict[str, str]:
    """Return by the Job's name why each failed hook Job failed: the change of the release was not made.

    Kubernetes keeps failed Jobs for an hour.
    """
    failed = {name_of(job): condition(job, "Failed") for job in jobs if is_hook(job) and has_failed(job)}
    return {name: ": ".join(filter(None, (text(one, "reason"), text(one, "message")))) for name, one in failed.items()}


_BAD = frozenset({PodState.FAILING, PodState.REJECTED})
_Identity = tuple[str, str]
"""A Job's name and UID: helm replaces a failed Job by a new one of the same name."""


@dataclass(frozen=True, slots=True)
class HookWatch:
    """The state of helm's Jobs, from all polls so far.

    Args:
        rows: the progress rows of the last poll.
        failing_since: by the Job's name, since when its newest pod fails; a Job replaces failed pods.
        reasons: by the Job, why a pod of it failed; kept, since the pods of a failed Job are deleted.
    """

    rows: tuple[Row, ...] = ()
    failing_since: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[_Identity, str] = field(default_factory=dict)

    @property
    def failure_reasons(self) -> tuple[str, ...]:
        """Why pods failed, for the Jobs that have not succeeded."""
        return tuple(self.reasons.values())

    def after(self, objects: Sequence[KubernetesObject], now: float) -> HookWatch:
        """Return it updated by one more poll."""
        events = of_kind(objects, "Event")
        jobs = {(name_of(job), text(job, "metadata", "uid")): job for job in of_kind(objects, "Job")}
        rows, failing = [], {}
        # Helm removes a succeeded Job at once, and a failed one only with the next change.
        reasons = {job: reason for job, reason in self.reasons.items() if job in jobs}
        for identity, pod in _newest_pods(of_kind(objects, "Pod")).items():
            if identity not in jobs or has_failed(jobs[identity]):
                continue  # it belongs to an earlier change, or its Job has failed, which helm reports
            job, _ = identity
            if text(pod, "status", "phase") == "Succeeded":
                reasons.pop(identity, None)
                continue
            state, reason = pod_reason(pod, events)
            told = _ending(pod) or f"is {state}: {reason}".removesuffix(": ")
            rows.append(Row(f"Job {job}", told.removeprefix("is "), Mark.BAD if state in _BAD else Mark.WAITING))
            if state in _BAD:
                failing[job] = self.failing_since.get(job, now)
                reasons[identity] = f"the Pod {name_of(pod)} of the Job {job} {told}"
        return HookWatch(tuple(rows), failing, reasons)

    def stuck_jobs(self, now: float) -> tuple[str, ...]:
        """Return the Jobs whose newest pod has been failing for STUCK_SECONDS."""
        return tuple(job for job, since in self.failing_since.items() if now - since >= STUCK_SECONDS)


def _ending(pod: KubernetesObject) -> str:
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


def _newest_pods(pods: Sequence[KubernetesObject]) -> dict[_Identity, KubernetesObject]:
    ours = sorted(filter(is_hook, pods), key=lambda pod: text(pod, "metadata", "creationTimestamp"))
    return {(text(owner_of(pod), "name"), text(owner_of(pod), "uid")): pod for pod in ours}
