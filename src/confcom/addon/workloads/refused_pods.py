"""Workloads whose Pods the API server refuses to create because of the add-on, by their controllers' events. Pure.

The controller exists and has no Pods: only its FailedCreate events say why. Events are kept for an hour, even if the
controller is changed meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from confcom.addon.daemons.daemon_events import event_time
from confcom.addon.model.chart_objects import EPC_AMOUNTS_POLICY
from confcom.addon.model.problems import Cause
from confcom.addon.model.resources import OURS, SETS
from confcom.addon.workloads.workloads import Trouble, TroubledWorkload
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    mapping,
    name_of,
    namespace_of,
    number,
    owner_of,
    text,
)

_AMOUNT_FIX = "write the amount of EPC in its Pod template as the message says: in MiB, and without a unit"
FAILED_CREATE = "FailedCreate"
"""The event reason for a Pod that a controller cannot create."""
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']+' denied request: (.*)", re.DOTALL)
_QUOTA = re.compile(r"exceeded quota: ([a-z0-9][a-z0-9.-]*), requested: (.*)", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
"""Valid names (RFC 1123) and kinds. An event's content is untrusted: any user who may create events in a namespace
controls it, and remedies are pasted into shells."""
API_VERSIONS = {
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "ReplicaSet": "apps/v1",
    "ReplicationController": "v1",
    "StatefulSet": "apps/v1",
}
"""Kinds of controllers that create Pods and whose state can be read."""

Controller = tuple[str, str, str]
"""Namespace, kind and name."""


@dataclass(frozen=True, slots=True)
class RefusalObservation:
    """The result of one read.

    Args:
        events: events of all namespaces about Pods that cannot be created.
        controllers: the existing controllers that the events are about.
        unread: controllers that this user may not read, or that were not read.
        doubt: why the events were not read; empty if they were.
    """

    events: tuple[KubernetesObject, ...] = ()
    controllers: tuple[KubernetesObject, ...] = ()
    unread: frozenset[Controller] = frozenset()
    doubt: str = ""


def refusals(
    events: Iterable[KubernetesObject], policies: Collection[str]
) -> dict[Controller, tuple[KubernetesObject, Cause, str]]:
    """Return each controller's latest refusal by the add-on's policies or a quota: event, cause and message."""
    found = {}
    for event in sorted(events, key=event_time):
        about = mapping(event, "involvedObject")
        where = text(about, "namespace") or namespace_of(event)
        kind, name = text(about, "kind"), text(about, "name")
        if not (_KIND.fullmatch(kind) and _NAME.fullmatch(name) and _NAME.fullmatch(where)):
            continue
        if refusal := _refusal(text(event, "message"), where, policies):
            found[where, kind, name] = (event, *refusal)
    return found


def refused_workloads(
    observation: RefusalObservation, policies: Collection[str], pods: Sequence[KubernetesObject]
) -> Iterator[TroubledWorkload]:
    """Yield the workloads whose Pods are still refused, each once.

    Args:
        observation: the events and controllers.
        policies: the names of the add-on's admission policies; that of amounts need not be among them.
        pods: pods of the cluster; a controller that has created one since the event is skipped.
    """
    found = refusals(observation.events, policies)
    if not found:
        return
    there = {(namespace_of(one), text(one, "kind"), name_of(one)): one for one in observation.controllers}
    newest = _newest_pods(pods)
    yielded = set()
    for controller, (event, cause, message) in found.items():
        live = there.get(controller)
        if (live is None and controller not in observation.unread) or (live is not None and _has_its_pods(live)):
            continue
        if newest.get(controller, "") > event_time(event):
            continue
        namespace, kind, name = controller
        maker = owner_of(live) if live is not None else {}
        workload = (namespace, text(maker, "kind") or kind, text(maker, "name") or name)
        if workload not in yielded:
            yielded.add(workload)
            yield TroubledWorkload(namespace, workload[2], workload[1], "", Trouble.REFUSED, cause, message)


def _refusal(message: str, namespace: str, policies: Collection[str]) -> tuple[Cause, str] | None:
    if (found := _POLICY.search(message)) and found[1] in {*policies, EPC_AMOUNTS_POLICY}:
        reason = " ".join(found[2].split())
        fix = _AMOUNT_FIX if found[1] == EPC_AMOUNTS_POLICY else _template_fix(reason, namespace)
        return Cause(f"the admission policy {found[1]} refuses its Pods", fix, code="refused-by-policy"), reason
    if (found := _QUOTA.search(message)) and any(name in found[2] for name in OURS):
        fix = f"request less, or raise the quota: kubectl edit resourcequota -n {namespace} {found[1]}"
        cause = Cause(f"the ResourceQuota {found[1]} refuses its Pods", fix, code="refused-by-quota")
        return cause, " ".join(found[0].split())
    return None


def _template_fix(reason: str, namespace: str) -> str:
    """Return the fix for a Pod template, by the resource name in the message of the policy's two rules."""
    for names in SETS:
        if names.helper in reason:
            return f"write {names.epc} in place of {names.helper} in its Pod template"
    name = next((names.provision for names in reversed(SETS) if names.provision in reason), SETS[0].provision)
    return (
        f"take {name} out of its Pod template: quotes from the quote helper do not need it; if it makes quotes in "
        f"process, an administrator adds {namespace} to the chart's value provision.namespaces"
    )


def _newest_pods(pods: Iterable[KubernetesObject]) -> Mapping[Controller, str]:
    found: dict[Controller, str] = {}
    for pod in pods:
        owner = owner_of(pod)
        controller = (namespace_of(pod), text(owner, "kind"), text(owner, "name"))
        found[controller] = max(found.get(controller, ""), text(pod, "metadata", "creationTimestamp"))
    return found


def _has_its_pods(controller: KubernetesObject) -> bool:
    spec, status = mapping(controller, "spec"), mapping(controller, "status")
    match text(controller, "kind"):
        case "Job":
            ended = any(condition(controller, kind).get("status") == "True" for kind in ("Complete", "Failed"))
            return ended or spec.get("suspend") is True
        case "DaemonSet":
            return number(status, "currentNumberScheduled") >= number(status, "desiredNumberScheduled")
        case _:
            return number(status, "replicas") >= (number(spec, "replicas") if "replicas" in spec else 1)
