"""What there is to say about the add-on in a cluster: per node, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.daemon_pods import DaemonPod, PodState, daemon_pods, last_warning
from confcom.addon.dead_resources import Stage, remains
from confcom.addon.hook_watch import failed_hooks
from confcom.addon.node_selection import selects
from confcom.addon.objects import (
    KubernetesObject,
    amount,
    condition,
    labels_of,
    listing,
    mapping,
    name_of,
    namespace_of,
    number,
    text,
)
from confcom.addon.plan import ADD_ON, NAME_LABEL, POLICY_ANNOTATION, Component, component_of, pod_spec_of, simulates
from confcom.addon.resources import SETS, allocatable, offered, set_of
from confcom.addon.rollout import in_progress
from confcom.addon.sgx_nodes import SgxKind, sgx_kind
from confcom.addon.snapshot import Snapshot
from confcom.addon.workloads import TroubledWorkload, troubled_workloads, used


class Provision(StrEnum):
    """Whether a node's quote helper got the provision device."""

    GRANTED = "yes"
    NOT_REQUESTED = "not requested"
    WAITING = "waiting"
    NO_HELPER = "no helper"


@dataclass(frozen=True, slots=True)
class EpcStatus:
    """A node's enclave memory, in MiB, under the name by which it is offered."""

    resource: str
    capacity: int
    allocatable: int
    used: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node."""

    name: str
    sgx: SgxKind
    ready: bool
    """Whether its kubelet reports that it can run pods."""
    epc: EpcStatus
    plugins: tuple[DaemonPod, ...]
    """More than one during an update."""
    helpers: tuple[DaemonPod, ...]
    provision: Provision
    """Of the newest helper."""
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """For `--output json`."""
        return {
            "name": self.name,
            "sgx": self.sgx,
            "ready": self.ready,
            "epc": {
                "resource": self.epc.resource,
                "capacity_mib": self.epc.capacity,
                "allocatable_mib": self.epc.allocatable,
                "used_mib": self.epc.used,
            },
            "device_plugin": [pod.to_json() for pod in self.plugins],
            "quote_helper": [pod.to_json() for pod in self.helpers],
            "provision_device": self.provision,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class AddOnStatus:
    """The add-on in a cluster."""

    namespace: str
    enabled: bool
    simulated: bool
    version: str
    """As the DaemonSets' label says; several during an update that changes it."""
    updating: bool
    nodes: tuple[NodeStatus, ...]
    """Those with SGX, and those that have something of ours."""
    other_nodes: int
    """How many have neither."""
    workloads: tuple[TroubledWorkload, ...]
    problems: tuple[str, ...]
    """Of the whole cluster and of every node."""

    @property
    def ok(self) -> bool:
        """Whether it is enabled and nothing is wrong with the add-on itself."""
        return self.enabled and not self.problems and not self.updating

    def to_json(self) -> dict[str, object]:
        """For `--output json`."""
        return {
            "enabled": self.enabled,
            "ok": self.ok,
            "namespace": self.namespace,
            "version": self.version,
            "simulated": self.simulated,
            "update_in_progress": self.updating,
            "nodes": [node.to_json() for node in self.nodes],
            "nodes_without_sgx": self.other_nodes,
            "workloads": [workload.to_json() for workload in self.workloads],
            "problems": list(self.problems),
        }


def add_on_status(seen: Snapshot) -> AddOnStatus:
    """Judge what was seen."""
    daemons = [one for one in seen.daemon_sets if component_of(one) and namespace_of(one) == seen.namespace]
    pods = daemon_pods([pod for pod in seen.pods if namespace_of(pod) == seen.namespace], seen.events, seen.said)
    nodes = [_node_status(node, pods, daemons, seen.pods) for node in seen.nodes]
    told = [one for one in nodes if _is_told(one, seen)]
    problems = [*_cluster_problems(seen, daemons)]
    problems += [f"{node.name}: {problem}" for node in told for problem in node.problems]
    return AddOnStatus(
        namespace=seen.namespace,
        enabled=bool(daemons),
        simulated=any(simulates(daemon) for daemon in daemons),
        version=", ".join(sorted({labels_of(one).get("app.kubernetes.io/version", "") for one in daemons})),
        updating=in_progress(daemons, pods),
        nodes=tuple(told),
        other_nodes=len(nodes) - len(told),
        workloads=troubled_workloads(seen.pods, seen.jobs),
        problems=tuple(problems),
    )


def _is_told(node: NodeStatus, seen: Snapshot) -> bool:
    of_ours = next(offered(one) for one in seen.nodes if name_of(one) == node.name)
    return bool(node.sgx is not SgxKind.NONE or node.plugins or node.helpers or of_ours)


def _node_status(
    node: KubernetesObject,
    pods: Sequence[DaemonPod],
    daemons: Sequence[KubernetesObject],
    all_pods: Sequence[KubernetesObject],
) -> NodeStatus:
    name, names = name_of(node), set_of(node)
    here = [pod for pod in pods if pod.node == name]
    plugins = [pod for pod in here if pod.component is Component.DEVICE_PLUGIN]
    helpers = [pod for pod in here if pod.component is Component.QUOTE_HELPER]
    capacity = amount(text(node, "status", "capacity", names.epc))
    epc = EpcStatus(names.epc, capacity, allocatable(node, names.epc), used(all_pods, name, names.epc))
    provision = _provision(helpers, all_pods)
    ready = condition(node, "Ready")
    problems: list[str] = []
    if ready.get("status") != "True":
        problems.append(f"the kubelet is not well: {text(ready, 'message') or 'it has never reported'}")
    wanted = {component_of(daemon) for daemon in daemons if selects(pod_spec_of(daemon), node)}
    if plugins or Component.DEVICE_PLUGIN in wanted:
        problems += _daemon_problems(Component.DEVICE_PLUGIN, plugins)
    if helpers or Component.QUOTE_HELPER in wanted:
        problems += _daemon_problems(Component.QUOTE_HELPER, helpers)
    problems += _epc_problems(epc, plugins)
    if helpers and provision is Provision.NOT_REQUESTED and not _is_simulated(helpers, daemons):
        problems.append("the quote helper does not ask for the provision device, without which it cannot quote")
    return NodeStatus(
        name=name,
        sgx=_kind(node, daemons),
        ready=ready.get("status") == "True",
        epc=epc,
        plugins=tuple(plugins),
        helpers=tuple(helpers),
        provision=provision,
        problems=tuple(problems),
    )


def _kind(node: KubernetesObject, daemons: Sequence[KubernetesObject]) -> SgxKind:
    """By the device plugin that is for this node; where none is, by the node's labels."""
    for daemon in daemons:
        if component_of(daemon) is Component.DEVICE_PLUGIN and selects(pod_spec_of(daemon), node):
            return SgxKind.SIMULATED if simulates(daemon) else SgxKind.HARDWARE
    return sgx_kind(node)


def _is_simulated(pods: Sequence[DaemonPod], daemons: Sequence[KubernetesObject]) -> bool:
    owners = {pod.owner for pod in pods}
    return any(simulates(daemon) for daemon in daemons if name_of(daemon) in owners)


def _daemon_problems(component: Component, pods: Sequence[DaemonPod]) -> Iterator[str]:
    alive = [pod for pod in pods if pod.state not in {PodState.ENDING, PodState.REJECTED}]
    if not alive:
        yield f"no {component.words}"
    for pod in alive:
        if pod.state is not PodState.READY:
            serving = any(one.state is PodState.READY for one in pods)
            rest = "; another one serves meanwhile" if serving else ""
            yield f"the {component.words} {pod.name} is {pod.state}: {pod.reason}{rest}"


def _epc_problems(epc: EpcStatus, plugins: Iterable[DaemonPod]) -> Iterator[str]:
    if epc.allocatable:
        return
    if any(pod.state is PodState.READY for pod in plugins):
        yield "the device plugin is ready, and the kubelet offers no EPC; it reports every 10 seconds"
    elif epc.capacity:
        yield f"none of its {epc.capacity} MiB of EPC can be had, since no device plugin offers them"


def _provision(helpers: Sequence[DaemonPod], pods: Sequence[KubernetesObject]) -> Provision:
    """By the newest helper: who asks for the device and runs has got it, since the kubelet starts nobody without."""
    if not helpers:
        return Provision.NO_HELPER
    pod = next(one for one in pods if text(one, "metadata", "uid") == helpers[-1].uid)
    asks = any(
        amount(text(container, "resources", "limits", names.provision))
        for container in listing(pod, "spec", "containers")
        for names in SETS
    )
    if not asks:
        return Provision.NOT_REQUESTED
    started = any(
        mapping(one, "state", "running") or mapping(one, "lastState", "terminated")
        for one in listing(pod, "status", "containerStatuses")
    )
    return Provision.GRANTED if started else Provision.WAITING


def _cluster_problems(seen: Snapshot, daemons: Sequence[KubernetesObject]) -> Iterator[str]:
    for job, why in failed_hooks([job for job in seen.jobs if namespace_of(job) == seen.namespace]).items():
        do = "the daemons go on as they were, and `confcom rollback` undoes it" if daemons else "`confcom enable` again"
        yield f"the last change was not made, since helm's Job {job} failed ({why}): {do}"
    elsewhere = {
        namespace_of(one)
        for one in seen.daemon_sets
        if labels_of(one).get(NAME_LABEL) == ADD_ON and namespace_of(one) != seen.namespace
    }
    if not daemons:
        there = f"; it is in {', '.join(sorted(elsewhere))}, which --namespace names" if elsewhere else ""
        yield f"the add-on is not enabled in the namespace {seen.namespace}{there}"
        yield from _leftovers(seen.nodes)
        return
    if not any(selects(pod_spec_of(daemon), node) for daemon in daemons for node in seen.nodes):
        wanted = sorted({f"{key}={value}" for one in daemons for key, value in _selector(one)})
        yield f"no node runs the daemons; they are for nodes labelled {', '.join(wanted)}"
    for daemon in daemons:
        missing = number(daemon, "status", "desiredNumberScheduled") - number(
            daemon, "status", "currentNumberScheduled"
        )
        if missing > 0 and (why := last_warning(name_of(daemon), seen.events)):
            yield f"the DaemonSet {name_of(daemon)} cannot make its Pods: {why}"
    yield from _policy_problems(seen, daemons)


def _policy_problems(seen: Snapshot, daemons: Sequence[KubernetesObject]) -> Iterator[str]:
    """A policy that was installed, and is not there or not bound: no Pod fails for that."""
    if seen.policies is None:
        return
    there = {(text(one, "kind"), name_of(one)) for one in seen.policies}
    for name in sorted({text(daemon, "metadata", "annotations", POLICY_ANNOTATION) for daemon in daemons} - {""}):
        kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        gone = [kind for kind in kinds if (kind, name) not in there]
        if gone:
            what = f"the {' and the '.join(gone)} {name} {'is' if len(gone) == 1 else 'are'} missing"
            yield f"{what}, and so the rule who may ask for the provision device: `confcom enable` installs it again"


def _leftovers(nodes: Sequence[KubernetesObject]) -> Iterator[str]:
    left = [name_of(node) for node in nodes if remains(node).stage not in {Stage.CLEAN, Stage.OFFERED}]
    if left:
        yield f"resources of an earlier installation are left on {', '.join(left)}: `confcom disable` removes them"


def _selector(daemon: KubernetesObject) -> Iterable[tuple[str, object]]:
    return mapping(pod_spec_of(daemon), "nodeSelector").items()
