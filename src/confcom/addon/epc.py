"""EPC: each node's amounts, the workloads that use it, and their Pods that are refused, rejected or pending. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from confcom.addon.chart_objects import allocatable, component_of, written
from confcom.addon.daemon_pods import event_time
from confcom.addon.problems import Problem
from confcom.kubernetes import objects
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import Inventory
from confcom.kubernetes.names import OURS, SETS
from confcom.kubernetes.objects import TERMINAL, KubernetesObject, mapping, name_of, namespace_of, text

_POLICY = re.compile(r"ValidatingAdmissionPolicy 'confcom-pods' with binding '[^']+' denied request: (.*)", re.DOTALL)
_QUOTA = re.compile(r"exceeded quota: ([a-z0-9][a-z0-9.-]*), requested: (.*)", re.DOTALL)
_NAME, _KIND = re.compile(r"[a-z0-9][a-z0-9.-]*"), re.compile(r"[A-Za-z][A-Za-z0-9]*")
"""Valid names (RFC 1123) and kinds. An event's content is untrusted: any user who may create events in a namespace
controls it, and remedies are pasted into shells."""


@dataclass(frozen=True, slots=True)
class PluginEpc:
    """A node's EPC as its device plugin found and offers it, in MiB."""

    found: int
    offered: int
    """To tenants: without MiB that are set aside, reserved or held back."""
    held_back: int
    kept: int
    """Offered beyond what the values leave to tenants: containers hold it."""
    kind: AccountingKind
    choice: str
    """The code of `reason`."""
    reason: str


def plugin_epc(page: str) -> PluginEpc | None:
    """Return the EPC in a device plugin's `/inventory`; None if the plugin waits for SGX."""
    inventory = Inventory.from_json(page)
    found, offer = inventory.epc.mib, inventory.accounting
    if offer.kind is None or not found:
        return None
    amounts = (offer.advertised_mib, offer.held_back_mib, offer.kept_mib)
    return PluginEpc(found, *amounts, offer.kind, offer.choice or "", offer.reason)


@dataclass(frozen=True, slots=True)
class NodeEpc:
    """A node's EPC in MiB, and the resource name under which it is offered."""

    resource: str
    capacity: int
    allocatable: int
    used: int | None
    """The Pods' requests, as the scheduler counts; None if the Pods were not read."""
    plugin: PluginEpc | None = None
    maximum: int | None = None

    @property
    def free(self) -> int | None:
        """MiB for new Pods."""
        return None if self.used is None else max(0, self.allocatable - self.used)

    def to_json(self) -> dict[str, object]:
        amounts = {f"{name}_mib": getattr(self, name) for name in ("capacity", "allocatable", "used", "free")}
        offer: dict[str, object] = {"found_mib": None, "offered_mib": None, "accounting": None}
        if plugin := self.plugin:
            accounting = {name: getattr(plugin, name) for name in ("kind", "choice", "reason")}
            accounting |= {"held_back_mib": plugin.held_back, "kept_mib": plugin.kept}
            offer = {"found_mib": plugin.found, "offered_mib": plugin.offered, "accounting": accounting}
        return {"resource": self.resource, **amounts, **offer}


def epc_problems(epc: NodeEpc, *, plugin_ready: bool) -> Iterator[Problem]:
    plugin, amounts = epc.plugin if plugin_ready else None, (epc.capacity, epc.allocatable)
    offered, as_capacity = epc.allocatable, False
    if plugin:
        as_capacity = plugin.kind is AccountingKind.CAPACITY
        offered = min(plugin.offered, epc.maximum) if as_capacity and epc.maximum else plugin.offered
    if not plugin_ready and epc.capacity and not epc.allocatable:
        why = f"its {epc.capacity} MiB of EPC are unavailable, since no device plugin offers them"
        yield Problem(why, code="epc-not-offered")
    elif (epc.used or 0) > offered:
        why = f"its Pods request {epc.used} MiB of EPC, and it is to have {offered}: it keeps theirs; end some of them"
        if plugin and offered < plugin.offered:
            why += f", or raise controller.maxEpcMiBPerNode (to at most {plugin.offered})"
        yield Problem(why, code="epc-shortfall")
    elif as_capacity and {*amounts} != {offered}:
        why = f"the node is to have {offered} MiB, and its status has {epc.capacity} ({epc.allocatable} allocatable): "
        why += "the controller writes it within seconds, or five minutes after a change from devices"
        yield Problem(why, code="capacity-not-written")
    elif plugin_ready and not as_capacity and (not epc.allocatable or (plugin and {*amounts} != {offered})):
        offers = f"{offered} MiB" if plugin else "EPC"
        why = f"the device plugin offers {offers}, and the kubelet {epc.allocatable} MiB; it reports every 10 seconds"
        yield Problem(why, code="epc-not-reported")


@dataclass(frozen=True, slots=True)
class EpcPod:
    namespace: str
    name: str
    node: str
    phase: str
    kind: str
    """That of its controller; `Pod` for a bare Pod."""
    owner: str
    requests: Mapping[str, int]
    reason: str = ""
    message: str = ""
    """With the reason: the kubelet's about a failed Pod, or the scheduler's about a pending one."""

    @property
    def epc_mib(self) -> int:
        return sum(self.requests.get(names.epc, 0) for names in SETS)


def epc_pod(pod: KubernetesObject) -> EpcPod | None:
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
    return EpcPod(namespace_of(pod), name_of(pod), node, text(status, "phase"), kind, owner, requests, *why)


def tenants(pods: Iterable[KubernetesObject], namespace: str) -> tuple[EpcPod, ...]:
    """Return the Pods with the add-on's resources, without the add-on's own in its namespace."""
    others = (pod for pod in pods if namespace_of(pod) != namespace or component_of(pod) is None)
    return tuple(filter(None, map(epc_pod, others)))


def used_by_node(pods: Iterable[EpcPod]) -> Mapping[tuple[str, str], int]:
    """Return by node and resource the amount that Pods there request."""
    used: defaultdict[tuple[str, str], int] = defaultdict(int)
    for pod in pods:
        if pod.node and pod.phase not in TERMINAL:
            for resource, amount in pod.requests.items():
                used[pod.node, resource] += amount
    return used


def unmet_requests(
    node: KubernetesObject, used: Mapping[tuple[str, str], int], *, selected: bool
) -> Mapping[str, tuple[int, int]]:
    """Return the resources of which Pods request more than their node offers, with both amounts.

    Of a node that no DaemonSet has selected, what the controller wrote is left over: nobody offers it.
    """
    left = frozenset() if selected else written(node)
    amounts = {one: (used.get((name_of(node), one), 0), 0 if one in left else allocatable(node, one)) for one in OURS}
    return {one: (requested, offered) for one, (requested, offered) in sorted(amounts.items()) if requested > offered}


@dataclass(frozen=True, slots=True)
class Workload:
    """The Pods of one controller, or a bare Pod, with the add-on's resources."""

    namespace: str
    kind: str
    name: str
    pods: int = 0
    nodes: int = 0
    epc_mib: int = 0
    trouble: str = ""
    """pending, rejected (by the kubelet, which is final) or refused (by the API server)."""
    code: str = ""
    cause: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def workloads(pods: Iterable[EpcPod], refused: Iterable[Workload]) -> tuple[Workload, ...]:
    """Return the workloads that use the add-on's resources: those that need help first, then the largest."""
    found = {(one.namespace, one.kind, one.name): one for one in refused}
    by_owner = defaultdict[tuple[str, str, str], list[EpcPod]](list)
    for pod in pods:
        by_owner[pod.namespace, pod.kind, pod.owner].append(pod)
    for key, alike in by_owner.items():
        found[key] = _with_pods(found.get(key) or Workload(*key), alike)
    shown = (one for one in found.values() if one.pods or one.trouble)
    return tuple(sorted(shown, key=lambda one: (not one.trouble, -one.epc_mib, one.namespace, one.name)))


def _with_pods(workload: Workload, pods: Sequence[EpcPod]) -> Workload:
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
    """Return whether the kubelet lacked our resource or a device for a Pod, as after a reboot of its node."""
    return reason == "UnexpectedAdmissionError" or (reason.startswith("OutOf") and any(one in reason for one in OURS))


def refused_workloads(events: Iterable[KubernetesObject]) -> tuple[Workload, ...]:
    """Return the controllers whose Pods the policy, or a quota of our resources, refuses by these events."""
    found = {}
    for event in sorted(events, key=event_time):
        about = mapping(event, "involvedObject")
        key = (text(about, "namespace"), text(about, "kind"), text(about, "name"))
        valid = _NAME.fullmatch(key[0]) and _KIND.fullmatch(key[1]) and _NAME.fullmatch(key[2])
        if valid and (reason := _refusal(key[0], text(event, "message"))):
            found[key] = Workload(*key, 0, 0, 0, "refused", *reason)
    return tuple(found.values())


def _refusal(namespace: str, message: str) -> tuple[str, str, str] | None:
    if denied := _POLICY.search(message):
        cause = f"the admission policy confcom-pods refuses its Pods: {' '.join(denied[1].split())}"
        return "refused-by-policy", cause, "change its Pod template as the message says"
    if (exceeded := _QUOTA.search(message)) and any(name in exceeded[2] for name in OURS):
        remedy = f"request less, or raise the quota: kubectl edit resourcequota -n {namespace} {exceeded[1]}"
        return "refused-by-quota", f"a ResourceQuota refuses its Pods: {' '.join(exceeded[0].split())}", remedy
    return None
