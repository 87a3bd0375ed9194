"""Workloads that use the add-on's resources, and those that fail because of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.model.chart_objects import own_component
from confcom.addon.model.problems import Cause, masked_text
from confcom.addon.model.resources import OURS, uses_ours
from confcom.addon.workloads.unschedulable import Scheduling, is_waiting
from confcom.kubernetes.objects import (
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

ADMISSION_ERROR = "UnexpectedAdmissionError"
"""The kubelet's reason for a pod whose devices no plugin allocated, as after a reboot before the plugin has started."""
_OUT_OF = "OutOf"
"""The prefix of the kubelet's reason for a pod whose resource was not available."""


def in_use(workloads: Sequence[RunningWorkload]) -> str:
    """Return a text such as "2 Pods use the add-on"."""
    return "1 Pod uses the add-on" if len(workloads) == 1 else f"{len(workloads)} Pods use the add-on"


class Trouble(StrEnum):
    """What is wrong with a workload."""

    REJECTED = "rejected"
    """The kubelet rejected it, which is final, and no controller creates another one."""
    STUCK = "stuck"
    """It is pending."""
    REFUSED = "refused"
    """The API server refuses the Pods that its controller creates."""


@dataclass(frozen=True, slots=True)
class TroubledWorkload:
    """A pod, or a controller of such pods, that needs help or waits for resources."""

    namespace: str
    name: str
    kind: str
    """`Pod`, or the controller's kind, such as `Job`."""
    node: str
    trouble: Trouble
    cause: Cause
    message: str = ""
    """The message of Kubernetes, which may differ between workloads with the same cause."""

    def to_json(self) -> dict[str, str]:
        """Return the object for `--output json`."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "kind": self.kind,
            "node": self.node,
            "trouble": self.trouble,
            "code": self.cause.code,
            "cause": ": ".join(filter(None, (self.cause.what, self.message))),
            "remedy": self.cause.remedy,
        }


@dataclass(frozen=True, slots=True)
class WorkloadGroup:
    """Workloads with the same kind, trouble, cause and remedy, apart from names."""

    workloads: tuple[TroubledWorkload, ...]
    """At least one; the texts of the first apply to all."""

    @property
    def first(self) -> TroubledWorkload:
        """The workload whose texts are shown."""
        return self.workloads[0]


@dataclass(frozen=True, slots=True)
class RunningWorkload:
    """A pod that holds, or waits for, our resources."""

    namespace: str
    name: str
    node: str
    owner: str
    """Kind and name of its controller; empty for a bare pod."""


def running_workloads(pods: Sequence[KubernetesObject], namespace: str) -> tuple[RunningWorkload, ...]:
    """Return the pods that hold, or wait for, our resources, without our daemons, which are in this namespace."""
    return tuple(
        RunningWorkload(namespace_of(pod), name_of(pod), node_of(pod), _owner_text(pod))
        for pod in pods
        if uses_ours(pod) and own_component(pod, namespace) is None and text(pod, "status", "phase") not in TERMINAL
    )


def used(pods: Sequence[KubernetesObject], node: str, resource: str) -> int:
    """Return how much of a resource the pods that are bound to a node take."""
    return sum(
        requests_of(pod, resource)
        for pod in pods
        if text(pod, "spec", "nodeName") == node and text(pod, "status", "phase") not in TERMINAL
    )


def troubled_workloads(
    nodes: Sequence[KubernetesObject],
    pods: Sequence[KubernetesObject],
    jobs: Sequence[KubernetesObject],
    *,
    namespace: str,
) -> tuple[TroubledWorkload, ...]:
    """Return the workloads that will not run without help, each once, and those that wait for our resources.

    Args:
        nodes: all nodes.
        pods: all Pods; our daemons' are left out.
        jobs: all Jobs.
        namespace: our daemons'.
    """
    others = [pod for pod in pods if own_component(pod, namespace) is None]
    failed_jobs = {(namespace_of(job), name_of(job)): job for job in jobs if has_failed(job)}
    waiting = list(filter(is_waiting, others))
    # What the nodes offer, and what is taken, takes a look at all of them.
    found = Scheduling.of(nodes, pods).causes(waiting) if waiting else ()
    stuck = (_stuck(pod, cause) for pod, cause in found)
    return (*_rejected([pod for pod in others if uses_ours(pod)], failed_jobs), *stuck)


def group_workloads(workloads: Sequence[TroubledWorkload]) -> tuple[WorkloadGroup, ...]:
    """Group workloads with the same cause and remedy, largest groups first."""
    names = {name for one in workloads for name in (one.namespace, one.name)}
    found: dict[tuple[str, ...], list[TroubledWorkload]] = {}
    for one in workloads:
        masked = (masked_text(words, names) for words in (one.cause.what, one.cause.remedy))
        found.setdefault((one.kind, one.trouble, one.cause.code, *masked), []).append(one)
    return tuple(sorted(map(WorkloadGroup, map(tuple, found.values())), key=lambda group: -len(group.workloads)))


def _rejected(
    pods: Sequence[KubernetesObject], failed_jobs: Mapping[tuple[str, str], KubernetesObject]
) -> Iterator[TroubledWorkload]:
    seen = set()
    for pod in pods:
        reason = text(pod, "status", "reason")
        if text(pod, "status", "phase") != "Failed" or not _is_rejection(reason):
            continue
        owner = owner_of(pod)
        message = text(pod, "status", "message")
        where = namespace_of(pod)
        if not owner:
            yield TroubledWorkload(
                where,
                name_of(pod),
                "Pod",
                node_of(pod),
                Trouble.REJECTED,
                Cause(
                    reason,
                    f"no controller replaces it: kubectl delete pod -n {where} {name_of(pod)}, and create it again",
                    code="pod-rejected",
                ),
                message,
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
                Cause(
                    reason,
                    f"it has no retries left: kubectl delete job -n {where} {name}, and create it again with a "
                    "higher backoffLimit (a rejected Pod has no condition that a podFailurePolicy could name)",
                    code="job-out-of-retries",
                ),
                f"{message} ({text(failure, 'reason') or 'it failed'})",
            )


def _stuck(pod: KubernetesObject, cause: Cause) -> TroubledWorkload:
    return TroubledWorkload(
        namespace_of(pod),
        name_of(pod),
        "Pod",
        "",
        Trouble.STUCK,
        cause,
        text(condition(pod, "PodScheduled"), "message"),
    )


def _is_rejection(reason: str) -> bool:
    return reason == ADMISSION_ERROR or (reason.startswith(_OUT_OF) and any(name in reason for name in OURS))


def _owner_text(pod: KubernetesObject) -> str:
    owner = mapping({"owner": owner_of(pod)}, "owner")
    return f"{text(owner, 'kind')} {text(owner, 'name')}" if owner else ""
