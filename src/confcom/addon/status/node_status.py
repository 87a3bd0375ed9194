"""The status of one node and its problems. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from confcom.addon.daemons.daemon_pods import DaemonPod, PodState
from confcom.addon.model.chart_objects import Component, component_of, pod_spec_of, simulates
from confcom.addon.model.epc_accounting import PluginEpc
from confcom.addon.model.node_selection import selects, tolerating, untolerated
from confcom.addon.model.problems import Problem
from confcom.addon.model.resources import SETS, allocatable, set_of
from confcom.addon.model.sgx_nodes import SgxKind, sgx_kind
from confcom.addon.status.epc_status import EpcStatus, epc_problems
from confcom.addon.status.socket_holders import suspects_of
from confcom.addon.workloads.workloads import used
from confcom.kubernetes.objects import (
    KubernetesObject,
    amount,
    condition,
    container_statuses,
    mapping,
    name_of,
    number,
    resource_names,
    text,
)

_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")
"""Node conditions under which the kubelet evicts pods, including our daemons."""
_GONE = frozenset({PodState.ENDING, PodState.REJECTED})


class Provision(StrEnum):
    """Whether the provision device was allocated to a node's quote helper."""

    GRANTED = "yes"
    NOT_REQUESTED = "not requested"
    WAITING = "waiting"
    NO_HELPER = "no helper"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The status of one node."""

    name: str
    sgx: SgxKind
    ready: bool
    """Whether its Ready condition is True."""
    epc: EpcStatus
    plugins: tuple[DaemonPod, ...]
    """More than one during an update."""
    helpers: tuple[DaemonPod, ...]
    provision: Provision
    """Of the newest helper; rejected pods count only if there is no other."""
    problems: tuple[Problem, ...]

    @property
    def causes(self) -> tuple[Problem, ...]:
        """The problems without consequential ones: if the kubelet is not Ready, all others follow from that."""
        return self.problems if self.ready else self.problems[:1]

    @property
    def healthy(self) -> bool:
        """Whether the node is Ready and has no problems."""
        return self.ready and not self.problems

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        return {
            "name": self.name,
            "sgx": self.sgx,
            "ready": self.ready,
            "epc": self.epc.to_json(),
            "device_plugin": [pod.to_json() for pod in self.plugins],
            "quote_helper": [pod.to_json() for pod in self.helpers],
            "provision_device": self.provision,
            "problems": [one.text for one in self.problems],
        }


def node_status(
    node: KubernetesObject,
    ours: Sequence[DaemonPod],
    pods: Sequence[KubernetesObject],
    daemons: Sequence[KubernetesObject],
    *,
    namespace: str,
    told: PluginEpc | None = None,
    maximum: int | None = None,
) -> NodeStatus:
    """Return the status of one node.

    Args:
        node: the node.
        ours: the daemons' pods on it, oldest first.
        pods: all pods that are bound to it or that a DaemonSet made for it.
        daemons: our DaemonSets.
        namespace: the add-on's.
        told: what its device plugin told of its EPC.
        maximum: the most EPC in MiB that the controller gives to a node.
    """
    name, names = name_of(node), set_of(node)
    plugins = [pod for pod in ours if pod.component is Component.DEVICE_PLUGIN]
    helpers = [pod for pod in ours if pod.component is Component.QUOTE_HELPER]
    capacity = amount(text(node, "status", "capacity", names.epc))
    epc = EpcStatus(names.epc, capacity, allocatable(node, names.epc), used(pods, name, names.epc), told, maximum)
    provision = _provision(helpers, pods)
    ready = condition(node, "Ready")
    problems: list[Problem] = []
    if ready.get("status") != "True":
        why = text(ready, "message") or "the kubelet has never reported"
        problems.append(Problem(f"the node is not Ready: {why}", code="node-not-ready"))
    problems += _pressures(node)
    wanted = [daemon for daemon in daemons if selects(pod_spec_of(daemon), node)]
    kept_off = [one for one in wanted if untolerated(pod_spec_of(one), node) and not _alive(ours, component_of(one))]
    if kept_off:
        problems.append(_tainted(node, kept_off, wanted))
    for component, found in ((Component.DEVICE_PLUGIN, plugins), (Component.QUOTE_HELPER, helpers)):
        is_wanted = component in map(component_of, wanted)
        if component not in map(component_of, kept_off) and (found or is_wanted):
            problems += _daemon_problems(component, found, daemons, pods, namespace)
    problems += epc_problems(epc, plugins)
    if helpers and provision is Provision.NOT_REQUESTED and not _is_simulated(helpers, daemons):
        problems.append(
            Problem(
                "the quote helper does not request the provision device and cannot make quotes without it",
                code="provision-not-requested",
            )
        )
    return NodeStatus(
        name=name,
        sgx=_kind(node, daemons),
        ready=ready.get("status") == "True",
        epc=epc,
        plugins=tuple(plugins),
        helpers=tuple(helpers),
        provision=provision,
        problems=tuple(replace(one, node=name) for one in problems),
    )


def _kind(node: KubernetesObject, daemons: Sequence[KubernetesObject]) -> SgxKind:
    """Return the kind by the device plugin DaemonSet that selects the node; if none does, by the node's labels."""
    for daemon in daemons:
        if component_of(daemon) is Component.DEVICE_PLUGIN and selects(pod_spec_of(daemon), node):
            return SgxKind.SIMULATED if simulates(daemon) else SgxKind.HARDWARE
    return sgx_kind(node)


def _is_simulated(pods: Sequence[DaemonPod], daemons: Sequence[KubernetesObject]) -> bool:
    owners = {pod.owner for pod in pods}
    return any(simulates(daemon) for daemon in daemons if name_of(daemon) in owners)


def _pressures(node: KubernetesObject) -> Iterator[Problem]:
    for kind in _PRESSURES:
        if condition(node, kind).get("status") == "True":
            yield Problem(
                f"the kubelet reports {kind}: it may evict Pods and reject new ones while this lasts",
                code="node-pressure",
            )


def _tainted(
    node: KubernetesObject, kept_off: Sequence[KubernetesObject], wanted: Sequence[KubernetesObject]
) -> Problem:
    """Return the problem of daemons that the node's taints keep off.

    It counts as a problem, and so in the exit code, because the node's label asks for the daemons.
    """
    taints = list(dict.fromkeys(taint for one in kept_off for taint in untolerated(pod_spec_of(one), node)))
    some = component_of(kept_off[0])
    who = f"the {some.words} does" if some and len(kept_off) < len(wanted) else "the daemons do"
    options = tolerating(list(map(pod_spec_of, wanted)), taints)
    return Problem(
        f"it is tainted {', '.join(taints)}, which {who} not tolerate: remove the taint; to keep it: "
        f"`confcom update {options}`",
        code="node-tainted",
    )


def _alive(pods: Iterable[DaemonPod], component: Component | None) -> list[DaemonPod]:
    return [pod for pod in pods if pod.component is component and pod.state not in _GONE]


def _daemon_problems(
    component: Component,
    pods: Sequence[DaemonPod],
    daemons: Sequence[KubernetesObject],
    neighbours: Sequence[KubernetesObject],
    namespace: str,
) -> Iterator[Problem]:
    alive = _alive(pods, component)
    if not alive:
        rejected = [pod for pod in pods if pod.state is PodState.REJECTED]
        why = "".join(f": {_state_text(pod)}" for pod in rejected[-1:])
        yield Problem(f"no {component.words}{why}", code="daemon-missing")
    elif pods[-1].state is PodState.REJECTED and any(
        _is_updating(one) for one in daemons if name_of(one) == pods[-1].owner
    ):
        # During an update, a rejected newest pod is the update's. Otherwise it was replaced or rolled back, and is only
        # not removed yet.
        alive.append(pods[-1])
    for pod in alive:
        if pod.state is not PodState.READY:
            serving = any(one.state is PodState.READY for one in pods)
            rest = "; another one serves meanwhile" if serving else ""
            suspects = suspects_of(pod, neighbours, namespace) if component is Component.QUOTE_HELPER else ""
            if suspects:
                yield Problem(f"the {component.words} {_state_text(pod)}: {suspects}{rest}", code="foreign-socket")
            else:
                yield Problem(
                    f"the {component.words} {_state_text(pod)}{rest}",
                    code="daemon-not-ready",
                    reason_code=pod.reason_code,
                )


def _is_updating(daemon: KubernetesObject) -> bool:
    status = mapping(daemon, "status")
    return number(status, "updatedNumberScheduled") < number(status, "currentNumberScheduled")


def _state_text(pod: DaemonPod) -> str:
    code = f" (code: {pod.reason_code})" if pod.reason_code else ""
    return f"{pod.name} is {pod.state}: {pod.reason}".removesuffix(": ") + code


def _provision(helpers: Sequence[DaemonPod], pods: Sequence[KubernetesObject]) -> Provision:
    """Return the provision state of the newest helper.

    A helper that requests the device, by its own container or by that of aesmd, and has started has the device: the
    kubelet starts no container before the devices of the pod are allocated. Pods that the kubelet rejected can be newer
    than the running one, and stay for minutes.
    """
    if not helpers:
        return Provision.NO_HELPER
    newest = [one for one in helpers if one.state is not PodState.REJECTED][-1:] or helpers[-1:]
    pod = next(one for one in pods if text(one, "metadata", "uid") == newest[0].uid)
    if not any(resource_names(pod, {names.provision for names in SETS})):
        return Provision.NOT_REQUESTED
    started = any(
        mapping(one, "state", "running") or mapping(one, "lastState", "terminated") for one in container_statuses(pod)
    )
    return Provision.GRANTED if started else Provision.WAITING
