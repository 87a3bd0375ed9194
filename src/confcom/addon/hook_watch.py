"""The Job that helm waits for before it changes anything else: what is seen of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.daemon_log import last_complaint
from confcom.addon.daemon_pods import PodState, pod_reason
from confcom.addon.objects import (
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
from confcom.addon.plan import is_hook
from confcom.addon.rollout import STUCK_SECONDS
from confcom.addon.telling import Mark, Row


def failed_hooks(jobs: Sequence[KubernetesObject]) -> dict[str, str]:
    """By the Job's name, why it failed: a change of the release that was not made. Kubernetes keeps them for an hour.

    Args:
        jobs: of the add-on's namespace.
    """
    failed = {name_of(job): condition(job, "Failed") for job in jobs if is_hook(job) and has_failed(job)}
    return {name: ": ".join(filter(None, (text(one, "reason"), text(one, "message")))) for name, one in failed.items()}


_BAD = frozenset({PodState.FAILING, PodState.REJECTED})
_Identity = tuple[str, str]
"""A Job's name and UID: helm makes a new one of the same name in place of one that failed."""


@dataclass(frozen=True, slots=True)
class HookWatch:
    """What all looks together saw.

    Args:
        rows: of the last look.
        failing_since: by the Job's name; its newest pod counts, since a Job tries again.
        reasons: by the Job, why a pod of it failed; kept, since a Job that has failed takes its pods with it.
    """

    rows: tuple[Row, ...] = ()
    failing_since: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[_Identity, str] = field(default_factory=dict)

    @property
    def failure_reasons(self) -> tuple[str, ...]:
        """Why pods of Jobs that have not succeeded failed."""
        return tuple(self.reasons.values())

    def after(self, objects: Sequence[KubernetesObject], now: float) -> HookWatch:
        """With one more look.

        Args:
            objects: pods, Jobs and events of the add-on's namespace.
            now: seconds of any clock.
        """
        events = of_kind(objects, "Event")
        jobs = {(name_of(job), text(job, "metadata", "uid")): job for job in of_kind(objects, "Job")}
        rows, failing = [], {}
        # Helm removes a Job that has succeeded at once, and one that failed with the next change only.
        reasons = {job: reason for job, reason in self.reasons.items() if job in jobs}
        for identity, pod in _newest_pods(of_kind(objects, "Pod")).items():
            if identity not in jobs or has_failed(jobs[identity]):
                continue  # an earlier change's; or it has ended, which helm tells
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
        """Jobs whose newest pod has failed to start for so long that it will not."""
        return tuple(job for job, since in self.failing_since.items() if now - since >= STUCK_SECONDS)


def _ending(pod: KubernetesObject) -> str:
    """How its program failed, if it did: a Job's pod is not started again, and says so in no other place."""
    if text(pod, "status", "phase") != "Failed" or text(pod, "status", "reason"):
        return ""  # the kubelet tells, as for an evicted one
    for one in listing(pod, "status", "containerStatuses"):
        if ended := mapping(one, "state", "terminated"):
            message = text(ended, "message")
            said = last_complaint(message) or " ".join(message.split())
            return ": ".join(filter(None, ("has failed", f"exit code {number(ended, 'exitCode')}", said)))
    return ""


def _newest_pods(pods: Sequence[KubernetesObject]) -> dict[_Identity, KubernetesObject]:
    """By the Job that made them."""
    ours = sorted(filter(is_hook, pods), key=lambda pod: text(pod, "metadata", "creationTimestamp"))
    return {(text(owner_of(pod), "name"), text(owner_of(pod), "uid")): pod for pod in ours}
