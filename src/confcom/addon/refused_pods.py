"""Workloads whose Pods the API server refuses to create because of the add-on, by their controllers' events. Pure.

The controller is accepted and has no Pods: only its FailedCreate events say why. They stay for an hour, also after
somebody has changed the controller.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from confcom.addon.daemon_pods import event_time
from confcom.addon.objects import (
    KubernetesObject,
    condition,
    mapping,
    name_of,
    namespace_of,
    number,
    owner_of,
    text,
)
from confcom.addon.resources import OURS, SETS
from confcom.addon.workloads import Trouble, TroubledWorkload

FAILED_CREATE = "FailedCreate"
"""The reason of a controller's event about a Pod that it cannot create."""
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']+' denied request: (.*)", re.DOTALL)
_QUOTA = re.compile(r"exceeded quota: ([a-z0-9][a-z0-9.-]*), requested: (.*)", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
"""What names and kinds are (RFC 1123). An event may say anything: whoever may create events in a namespace writes them,
and remedies are pasted into shells."""
API_VERSIONS = {
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "ReplicaSet": "apps/v1",
    "ReplicationController": "v1",
    "StatefulSet": "apps/v1",
}
"""Controllers that make Pods, whose state can be looked up."""

Controller = tuple[str, str, str]
"""Namespace, kind and name."""


@dataclass(frozen=True, slots=True)
class RefusalObservation:
    """What one look saw.

    Args:
        events: about Pods that cannot be created, of all namespaces.
        controllers: those that the events are about and that are there.
        unread: those that this user may not read, or that were not asked for.
        doubt: why the events were not read; empty if they were.
    """

    events: tuple[KubernetesObject, ...] = ()
    controllers: tuple[KubernetesObject, ...] = ()
    unread: frozenset[Controller] = frozenset()
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server refuses a controller's Pods, and what to write."""

    cause: str
    remedy: str
    message: str


def refusals(
    events: Iterable[KubernetesObject], policies: Collection[str]
) -> dict[Controller, tuple[KubernetesObject, Refusal]]:
    """The latest refusal of each controller that the add-on's policies, or a quota of its resources, caused.

    Args:
        events: about Pods that cannot be created.
        policies: the names of the add-on's admission policies.
    """
    found = {}
    for event in sorted(events, key=event_time):
        about = mapping(event, "involvedObject")
        where = text(about, "namespace") or namespace_of(event)
        kind, name = text(about, "kind"), text(about, "name")
        if not (_KIND.fullmatch(kind) and _NAME.fullmatch(name) and _NAME.fullmatch(where)):
            continue
        if refusal := _refusal(text(event, "message"), where, policies):
            found[where, kind, name] = (event, refusal)
    return found


def refused_workloads(
    observation: RefusalObservation, policies: Collection[str], pods: Sequence[KubernetesObject]
) -> Iterator[TroubledWorkload]:
    """Those whose Pods are still refused, each once.

    Args:
        observation: what was seen.
        policies: the names of the add-on's admission policies.
        pods: of the cluster, by which a controller is known that could create one since.
    """
    found = refusals(observation.events, policies)
    there = {(namespace_of(one), text(one, "kind"), name_of(one)): one for one in observation.controllers}
    newest = _newest_pods(pods)
    told = set()
    for controller, (event, refusal) in found.items():
        live = there.get(controller)
        if (live is None and controller not in observation.unread) or (live is not None and _has_its_pods(live)):
            continue
        if newest.get(controller, "") > event_time(event):
            continue
        namespace, kind, name = controller
        maker = owner_of(live) if live is not None else {}
        workload = (namespace, text(maker, "kind") or kind, text(maker, "name") or name)
        if workload not in told:
            told.add(workload)
            yield TroubledWorkload(
                namespace, workload[2], workload[1], "", Trouble.REFUSED, refusal.cause, refusal.remedy, refusal.message
            )


def _refusal(message: str, namespace: str, policies: Collection[str]) -> Refusal | None:
    if (found := _POLICY.search(message)) and found[1] in policies:
        said = " ".join(found[2].split())
        return Refusal(f"the admission policy {found[1]} refuses its Pods", _template_fix(said, namespace), said)
    if (found := _QUOTA.search(message)) and any(name in found[2] for name in OURS):
        quota = found[1]
        return Refusal(
            f"the ResourceQuota {quota} refuses its Pods",
            f"ask for less, or raise it: kubectl edit resourcequota -n {namespace} {quota}",
            " ".join(found[0].split()),
        )
    return None


def _template_fix(said: str, namespace: str) -> str:
    """What a Pod template that the policy refuses has to say, by which of its two rules it names."""
    for names in SETS:
        if names.helper in said:
            return f"write {names.epc} in place of {names.helper} in its Pod template"
    name = next((names.provision for names in reversed(SETS) if names.provision in said), SETS[0].provision)
    return (
        f"take {name} out of its Pod template: quotes from the quote helper do not need it; if it makes quotes in "
        f"process, an administrator adds {namespace} to the chart's value provision.namespaces"
    )


def _newest_pods(pods: Iterable[KubernetesObject]) -> Mapping[Controller, str]:
    """By the controller: when its newest pod was created."""
    found: dict[Controller, str] = {}
    for pod in pods:
        owner = owner_of(pod)
        controller = (namespace_of(pod), text(owner, "kind"), text(owner, "name"))
        found[controller] = max(found.get(controller, ""), text(pod, "metadata", "creationTimestamp"))
    return found


def _has_its_pods(controller: KubernetesObject) -> bool:
    """Whether a controller wants no more Pods than it has."""
    spec, status = mapping(controller, "spec"), mapping(controller, "status")
    match text(controller, "kind"):
        case "Job":
            ended = any(condition(controller, kind).get("status") == "True" for kind in ("Complete", "Failed"))
            return ended or spec.get("suspend") is True
        case "DaemonSet":
            return number(status, "currentNumberScheduled") >= number(status, "desiredNumberScheduled")
        case _:
            return number(status, "replicas") >= (number(spec, "replicas") if "replicas" in spec else 1)
