"""The Job that helm waits for before it changes anything else: what is seen of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.daemon_pods import PodState, pod_reason
from confcom.addon.objects import KubernetesObject, condition, has_failed, name_of, of_kind, owner_of, text
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


@dataclass(frozen=True, slots=True)
class HookWatch:
    """What all looks together saw.

    Args:
        rows: of the last look.
        failing_since: by the Job's name.
        told: why a pod of it failed; kept, since a Job that has failed takes its pods with it.
    """

    rows: tuple[Row, ...] = ()
    failing_since: Mapping[str, float] = field(default_factory=dict)
    told: tuple[str, ...] = ()

    def after(self, objects: Sequence[KubernetesObject], now: float) -> HookWatch:
        """With one more look.

        Args:
            objects: pods and events of the add-on's namespace.
            now: seconds of any clock.
        """
        events = of_kind(objects, "Event")
        rows, failing, told = [], {}, self.told
        for pod in of_kind(objects, "Pod"):
            if not is_hook(pod) or text(pod, "status", "phase") == "Succeeded":
                continue
            job = text(owner_of(pod), "name")
            state, reason = pod_reason(pod, events)
            rows.append(
                Row(f"Job {job}", f"{state}: {reason}", Mark.BAD if state is PodState.FAILING else Mark.WAITING)
            )
            if state in {PodState.FAILING, PodState.REJECTED}:
                failing[job] = self.failing_since.get(job, now)
                told = (f"the Pod {name_of(pod)} of the Job {job} is {state}: {reason}",)
        return HookWatch(tuple(rows), failing, told)

    def hopeless(self, now: float) -> tuple[str, ...]:
        """Jobs whose pods have failed to start for so long that they will not."""
        return tuple(job for job, since in self.failing_since.items() if now - since >= STUCK_SECONDS)
