"""Tenants' Pods and workloads that use the add-on's resources, and workloads whose Pods are refused. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from confcom.addon.daemon_pods import event_time
from confcom.kubernetes import names as add_on
from confcom.kubernetes import objects
from confcom.kubernetes.names import OURS, SETS
from confcom.kubernetes.objects import TERMINAL, KubernetesObject, mapping, name_of, namespace_of, text

_POLICY = re.compile(r"ValidatingAdmissionPolicy 'confcom-pods' with binding '[^']+' denied request: (.*)", re.DOTALL)
_QUOTA = re.compile(r"exceeded quota: ([a-z0-9][a-z0-9.-]*), requested: (.*)", re.DOTALL)
_NAME, _KIND = re.compile(r"[a-z0-9][a-z0-9.-]*"), re.compile(r"[A-Za-z][A-Za-z0-9]*")
"""Match valid names (RFC 1123) and kinds. An event's content is untrusted: any user who may create events in a
namespace can forge an event, and people paste remedies into shells."""


@dataclass(frozen=True, slots=True)
class TenantPod:
    namespace: str
    name: str
    node: str
    phase: str
    kind: str
    """The kind of the Pod's controller; `Pod` for a bare Pod."""
    owner: str
    requests: Mapping[str, int]
    reason: str = ""
    message: str = ""
    """The kubelet gives a failed Pod's reason and message; the scheduler gives them for a pending Pod."""

    @property
    def epc_mib(self) -> int:
        return sum(self.requests.get(names.epc, 0) for names in SETS)


def tenant_pod(pod: KubernetesObject) -> TenantPod | None:
    names = frozenset(objects.resource_names(pod, OURS))
    if not names:
        return None
    status, node = mapping(pod, "status"), text(pod, "spec", "nodeName")
    failed = text(status, "phase") == "Failed"
    about = status if failed else {} if node else objects.condition(pod, "PodScheduled")
    controller = objects.owner_of(pod) or {"kind": "Pod", "name": name_of(pod)}
    kind, owner = text(controller, "kind"), text(controller, "name")
    requests = {name: objects.requests_of(pod, name) for name in names}
    why = (text(about, "reason"), text(about, "message"))
    return TenantPod(namespace_of(pod), name_of(pod), node, text(status, "phase"), kind, owner, requests, *why)


def tenants(pods: Iterable[KubernetesObject], namespace: str) -> tuple[TenantPod, ...]:
    """Return the Pods that use the add-on's resources, except the add-on's own Pods."""
    others = (pod for pod in pods if namespace_of(pod) != namespace or add_on.component(objects.labels_of(pod)) is None)
    return tuple(filter(None, map(tenant_pod, others)))


def used_by_node(pods: Iterable[TenantPod]) -> Mapping[tuple[str, str], int]:
    used: defaultdict[tuple[str, str], int] = defaultdict(int)
    for pod in pods:
        if pod.node and pod.phase not in TERMINAL:
            for resource, amount in pod.requests.items():
                used[pod.node, resource] += amount
    return used


@dataclass(frozen=True, slots=True)
class TenantWorkload:
    """A controller whose Pods use the add-on's resources, or a bare Pod that uses them."""

    namespace: str
    kind: str
    name: str
    pods: int = 0
    nodes: int = 0
    epc_mib: int = 0
    trouble: str = ""
    """`pending`, `rejected` (by the kubelet, for good) or `refused` (by the API server); else empty."""
    code: str = ""
    cause: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def workloads(pods: Iterable[TenantPod], refused: Iterable[TenantWorkload]) -> tuple[TenantWorkload, ...]:
    """Return the workloads that use the add-on's resources: workloads in trouble first, then the largest."""
    found = {(one.namespace, one.kind, one.name): one for one in refused}
    by_owner = defaultdict[tuple[str, str, str], list[TenantPod]](list)
    for pod in pods:
        by_owner[pod.namespace, pod.kind, pod.owner].append(pod)
    for key, alike in by_owner.items():
        found[key] = _with_pods(found.get(key) or TenantWorkload(*key), alike)
    shown = (one for one in found.values() if one.pods or one.trouble)
    return tuple(sorted(shown, key=lambda one: (not one.trouble, -one.epc_mib, one.namespace, one.name)))


def _with_pods(workload: TenantWorkload, pods: Sequence[TenantPod]) -> TenantWorkload:
    alive = [pod for pod in pods if pod.phase not in TERMINAL]
    nodes = len({pod.node for pod in alive} - {""})
    workload = replace(workload, pods=len(alive), nodes=nodes, epc_mib=sum(pod.epc_mib for pod in alive))
    if workload.trouble:
        return workload
    if pending := next((pod for pod in alive if not pod.node and pod.message), None):
        why = f"{pending.reason}: {pending.message}"
        remedy = f"kubectl describe pod -n {pending.namespace} {pending.name}"
        return replace(workload, trouble="pending", code="pod-pending", cause=why, remedy=remedy)
    rejected = next((pod for pod in pods if pod.phase == "Failed" and _is_rejection(pod.reason)), None)
    if rejected and workload.kind in {"Pod", "Job"} and all(pod.phase == "Failed" for pod in pods):
        delete = f"kubectl delete {workload.kind.lower()} -n {workload.namespace} {workload.name}"
        why, remedy = f"{rejected.reason}: {rejected.message}", f"nothing replaces it: {delete}, and create it again"
        return replace(workload, trouble="rejected", code="pod-rejected", cause=why, remedy=remedy)
    return workload


def _is_rejection(reason: str) -> bool:
    """Return whether a kubelet rejected a Pod for lack of a device or of our resource, as after a reboot."""
    return reason == "UnexpectedAdmissionError" or (reason.startswith("OutOf") and any(one in reason for one in OURS))


def refused_workloads(events: Iterable[KubernetesObject], after: datetime) -> tuple[TenantWorkload, ...]:
    """Return controllers whose Pods were refused by our policy or a quota on our resources since `after`."""
    found = {}
    recent = (event for event in events if (objects.time_of(event_time(event)) or after) > after)
    for event in sorted(recent, key=event_time):
        about = mapping(event, "involvedObject")
        key = (text(about, "namespace"), text(about, "kind"), text(about, "name"))
        valid = _NAME.fullmatch(key[0]) and _KIND.fullmatch(key[1]) and _NAME.fullmatch(key[2])
        if valid and (reason := _refusal(key[0], text(event, "message"))):
            found[key] = TenantWorkload(*key, 0, 0, 0, "refused", *reason)
    return tuple(found.values())


def _refusal(namespace: str, message: str) -> tuple[str, str, str] | None:
    if denied := _POLICY.search(message):
        cause = f"the admission policy confcom-pods refuses its Pods: {' '.join(denied[1].split())}"
        return "refused-by-policy", cause, "change its Pod template as the message says"
    if (exceeded := _QUOTA.search(message)) and any(name in exceeded[2] for name in OURS):
        remedy = f"request less, or raise the quota: kubectl edit resourcequota -n {namespace} {exceeded[1]}"
        return "refused-by-quota", f"a ResourceQuota refuses its Pods: {' '.join(exceeded[0].split())}", remedy
    return None
