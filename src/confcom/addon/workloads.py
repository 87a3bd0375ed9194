"""Pods that use the add-on's resources, and those that cannot because of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.objects import (
    TERMINAL,
    KubernetesObject,
    condition,
    has_failed,
    mapping,
    name_of,
    namespace_of,
    node_of,
    owner_of,
    requests_of,
    text,
)
from confcom.addon.plan import component_of
from confcom.addon.resources import OURS, SETS, uses_ours

ADMISSION_ERROR = "UnexpectedAdmissionError"
"""The kubelet's reason for a pod whose devices no plugin gave, as after a reboot before the plugin was up."""
_OUT_OF = "OutOf"
"""How the kubelet's reason begins for a pod whose resource was not there."""
_MISTAKEN_MIB = 1024 * 1024
"""No node has a TiB of EPC: who asks for so many MiB wrote `10Mi`, which is 10,485,760 of them."""


class Trouble(StrEnum):
    """What is wrong with a workload."""

    REJECTED = "rejected"
    """It ended for good, since the kubelet refused it, and nothing makes another one."""
    STUCK = "stuck"
    """It waits."""


@dataclass(frozen=True, slots=True)
class TroubledWorkload:
    """A pod, or the Job that made it, which needs somebody's help."""

    namespace: str
    name: str
    kind: str
    """`Pod` or `Job`."""
    node: str
    trouble: Trouble
    cause: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """For `--output json`."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "kind": self.kind,
            "node": self.node,
            "trouble": self.trouble,
            "cause": self.cause,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class RunningWorkload:
    """A pod that holds resources of ours."""

    namespace: str
    name: str
    node: str
    owner: str
    """Kind and name of its controller, or empty for a bare pod."""


def running_workloads(pods: Sequence[KubernetesObject]) -> tuple[RunningWorkload, ...]:
    """Pods that hold, or wait for, resources of ours; our daemons excepted."""
    return tuple(
        RunningWorkload(namespace_of(pod), name_of(pod), node_of(pod), _owner_text(pod))
        for pod in pods
        if uses_ours(pod) and component_of(pod) is None and text(pod, "status", "phase") not in TERMINAL
    )


def used(pods: Sequence[KubernetesObject], node: str, resource: str) -> int:
    """How much of a resource the pods bound to a node take."""
    return sum(
        requests_of(pod, resource)
        for pod in pods
        if text(pod, "spec", "nodeName") == node and text(pod, "status", "phase") not in TERMINAL
    )


def troubled_workloads(
    pods: Sequence[KubernetesObject], jobs: Sequence[KubernetesObject]
) -> tuple[TroubledWorkload, ...]:
    """Those that will not run without somebody's help, each once, and those that wait for our resources."""
    ours = [pod for pod in pods if uses_ours(pod) and component_of(pod) is None]
    failed_jobs = {(namespace_of(job), name_of(job)): job for job in jobs if has_failed(job)}
    return (*_rejected(ours, failed_jobs), *_stuck(ours))


def _rejected(
    pods: Sequence[KubernetesObject], failed_jobs: Mapping[tuple[str, str], KubernetesObject]
) -> Iterator[TroubledWorkload]:
    seen = set()
    for pod in pods:
        reason = text(pod, "status", "reason")
        if text(pod, "status", "phase") != "Failed" or not _is_rejection(reason):
            continue
        owner = owner_of(pod)
        cause = f"{reason}: {text(pod, 'status', 'message')}"
        where = namespace_of(pod)
        if not owner:
            yield TroubledWorkload(
                where,
                name_of(pod),
                "Pod",
                node_of(pod),
                Trouble.REJECTED,
                cause,
                f"nothing makes it again: kubectl delete pod -n {where} {name_of(pod)}, and create it once more",
            )
        elif text(owner, "kind") == "Job" and (where, text(owner, "name")) in failed_jobs:
            name = text(owner, "name")
            if (where, name) in seen:
                continue
            seen.add((where, name))
            failure = condition(failed_jobs[where, name], "Failed")
            yield TroubledWorkload(
                where,
                name,
                "Job",
                node_of(pod),
                Trouble.REJECTED,
                f"{cause} ({text(failure, 'reason') or 'it failed'})",
                f"it has no retries left: kubectl delete job -n {where} {name}, and create it once more with a higher "
                "backoffLimit (a rejected Pod has no condition that a podFailurePolicy could name)",
            )


def _stuck(pods: Sequence[KubernetesObject]) -> Iterator[TroubledWorkload]:
    for pod in pods:
        scheduled = condition(pod, "PodScheduled")
        message = text(scheduled, "message")
        if text(pod, "status", "phase") != "Pending" or scheduled.get("status") != "False":
            continue
        if not any(name in message for name in OURS) and not any(_mistaken(pod)):
            continue
        remedy = next(_mistaken(pod), "")
        yield TroubledWorkload(
            namespace_of(pod),
            name_of(pod),
            "Pod",
            "",
            Trouble.STUCK,
            message,
            remedy or "it runs when there is room: see `used` and `allocatable` of the nodes",
        )


def _mistaken(pod: KubernetesObject) -> Iterator[str]:
    for names in SETS:
        wanted = requests_of(pod, names.epc)
        if wanted >= _MISTAKEN_MIB:
            yield (f"it asks for {wanted} MiB: {names.epc} counts MiB, so 10 MiB are written 10, not 10Mi")


def _is_rejection(reason: str) -> bool:
    return reason == ADMISSION_ERROR or (reason.startswith(_OUT_OF) and any(name in reason for name in OURS))


def _owner_text(pod: KubernetesObject) -> str:
    owner = mapping({"owner": owner_of(pod)}, "owner")
    return f"{text(owner, 'kind')} {text(owner, 'name')}" if owner else ""
