"""Why a Pod that requests the add-on's resources is unschedulable, by what the nodes offer and allow. Pure.

The scheduler's message counts nodes by the first reason that excludes each. This module finds the reason that the Pod's
owner can act on, by the nodes that offer what the Pod requests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from confcom.addon.model.node_selection import selects, taints_against, with_label
from confcom.addon.model.problems import Cause, shown
from confcom.addon.model.resources import INTEL_EPC, OURS, REAL, SETS, SIMULATED, allocatable, set_of
from confcom.addon.workloads.taint_causes import taint_cause
from confcom.kubernetes.objects import (
    TERMINAL,
    KubernetesObject,
    amount,
    condition,
    labels_of,
    listing,
    mapping,
    name_of,
    requests_of,
    resource_names,
    text,
)

_MIB = 1024 * 1024
_MISTAKEN_MIB = 1024 * 1024
"""No node has a TiB of EPC: such a request is a mistake for MiB, as `10Mi` means 10,485,760 MiB."""
KINDS_EXAMINED = 50
"""Maximum number of kinds of Pods that are examined. Each takes 0.1 s on 5,000 nodes, and a tenant can create any
number of kinds."""
_GATED = "SchedulingGated"
"""The PodScheduled reason of a Pod with scheduling gates, which its owner holds back."""
_COUNTERPARTS = {
    other: name
    for here, there in ((REAL, SIMULATED), (SIMULATED, REAL))
    for other, name in zip(here.names, there.names, strict=True)
}
"""By resource: its name on the other kind of node (`simulated.besideHardware`)."""

_NOT_EXAMINED = Cause(
    f"its cause was not examined, since Pods of {KINDS_EXAMINED} other kinds are waiting too",
    "see the scheduler's message:  kubectl describe pod",
    code="cause-not-examined",
)
_Filter = Callable[[KubernetesObject], bool]
_CauseOf = Callable[[Sequence[KubernetesObject]], Cause]
"""Returns the cause, given the nodes of which a filter kept none."""


def is_waiting(pod: KubernetesObject) -> bool:
    """Return whether the scheduler has found no node for a pod yet."""
    return text(pod, "status", "phase") == "Pending" and condition(pod, "PodScheduled").get("status") == "False"


@dataclass(frozen=True, slots=True)
class Scheduling:
    """The nodes as the scheduler sees them.

    Args:
        nodes: all nodes.
        offers: allocatable amounts by node and resource; read once, because each kind of Pod is compared with them.
        taken: by node and resource, the amount that bound pods take.
    """

    nodes: Sequence[KubernetesObject]
    offers: Mapping[tuple[str, str], int]
    taken: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, nodes: Sequence[KubernetesObject], pods: Iterable[KubernetesObject]) -> Scheduling:
        """Compute the amounts from all nodes and pods of the cluster."""
        taken = Counter[tuple[str, str]]()
        for pod in pods:
            node = text(pod, "spec", "nodeName")
            if node and text(pod, "status", "phase") not in TERMINAL:
                for name in set(resource_names(pod, OURS)):
                    taken[node, name] += requests_of(pod, name)
        offers = {(name_of(node), name): size for node in nodes for name in OURS if (size := allocatable(node, name))}
        return cls(nodes, offers, taken)

    def causes(self, pods: Iterable[KubernetesObject]) -> Iterator[tuple[KubernetesObject, Cause]]:
        """Yield the pods that wait for our resources, or for EPC by Intel's name, each with the cause."""
        # A Deployment's pods have the same cause, and finding it takes a comparison with every node.
        known: dict[str, Cause | None] = {}
        for pod in filter(is_waiting, pods):
            scheduled = condition(pod, "PodScheduled")
            wanted = {name: requests_of(pod, name) for name in sorted({*resource_names(pod, {*OURS, INTEL_EPC})})}
            if not wanted or text(scheduled, "reason") == _GATED:
                continue
            named = any(name in text(scheduled, "message") for name in OURS)
            spec = mapping(pod, "spec")
            key = _cause_key(spec, wanted, named=named)
            if key not in known:
                if len(known) >= KINDS_EXAMINED:
                    yield pod, _NOT_EXAMINED
                    continue
                known[key] = self._cause(spec, wanted, named=named)
            if cause := known[key]:
                yield pod, cause

    def _intel_cause(self, spec: KubernetesObject) -> Cause | None:
        """Return what to write instead of Intel's name, which counts bytes; None if another plugin offers it."""
        if any(allocatable(node, INTEL_EPC) for node in self.nodes):
            return None
        name = next((set_of(node).epc for node in self.nodes if allocatable(node, set_of(node).epc)), REAL.epc)
        written = ", ".join(
            f"{name}: {-(-size // _MIB)} in the container {container}"
            for container, size in _intel_requests(spec).items()
        )
        return Cause(
            f"it requests {INTEL_EPC} (in bytes), the name that Intel's device plugin uses; no node offers it",
            f"write {written} (in MiB), in place of {INTEL_EPC}",
            code="intel-resource-name",
        )

    def _cause(self, spec: KubernetesObject, wanted: Mapping[str, int], *, named: bool) -> Cause | None:
        """Filter the nodes as the scheduler does, and return the cause of the first filter that leaves none."""
        if INTEL_EPC in wanted:
            return self._intel_cause(spec)
        if mistaken := next(_unit_mistakes(wanted), None):
            return mistaken
        asked = _amounts(wanted)
        room = Cause(
            f"no node where it may run has {asked} left",
            "it starts when EPC becomes free: compare EPC MiB and USED of the nodes",
            code="no-room",
        )
        filters: tuple[tuple[_Filter, _CauseOf], ...] = (
            (lambda node: all(self._offer(node, name) for name in wanted), lambda _: self._not_offered(wanted)),
            (
                lambda node: all(self._offer(node, name) >= size for name, size in wanted.items()),
                lambda nodes: self._too_large(nodes, wanted),
            ),
            (lambda node: selects(spec, node), lambda nodes: _unselected(spec, nodes)),
            (lambda node: not taints_against(spec, node), lambda nodes: taint_cause(spec, nodes)),
            (lambda node: all(self._free(node, name) >= size for name, size in wanted.items()), lambda _: room),
        )
        left = self.nodes
        for keeps, why in filters:
            passing = [node for node in left if keeps(node)]
            if not passing:
                return why(left)
            left = passing
        if not named:
            return None
        return Cause(
            f"{asked} is free on {shown([name_of(node) for node in left])}, but another constraint keeps the Pod off "
            "these nodes",
            "see the scheduler's message about CPU, memory, volumes and other Pods",
            code="other-constraint",
        )

    def _free(self, node: KubernetesObject, name: str) -> int:
        return self._offer(node, name) - self.taken.get((name_of(node), name), 0)

    def _offer(self, node: KubernetesObject, name: str) -> int:
        return self.offers.get((name_of(node), name), 0)

    def _not_offered(self, wanted: Mapping[str, int]) -> Cause:
        offered = {name for _, name in self.offers}
        missing = [name for name in wanted if name not in offered]
        others = [f"{_COUNTERPARTS[name]} in place of {name}" for name in missing if _COUNTERPARTS[name] in offered]
        if others:
            remedy = f"write {', and '.join(others)}"
            return Cause(f"no node offers {', '.join(missing)}", remedy, code="other-resource-name")
        if missing:
            remedy = "it starts when a node offers this resource: check the nodes and their problems"
            return Cause(f"no node offers {', '.join(missing)}", remedy, code="resource-not-offered")
        return Cause(
            f"no node offers all of {', '.join(wanted)}",
            "request the names of one kind of node:  confcom.internal/simulated-sgx=true, or hardware",
            code="resources-not-offered-together",
        )

    def _too_large(self, having: Sequence[KubernetesObject], wanted: Mapping[str, int]) -> Cause:
        largest = {name: max(self._offer(node, name) for node in having) for name in wanted}
        short = {name: largest[name] for name, size in wanted.items() if size > largest[name]}
        if not short:
            remedy = "request less, or add a larger node"
            return Cause(f"no node offers {_amounts(wanted)} together", remedy, code="request-too-large")
        most, asked = ", ".join(map(str, short.values())), _amounts({name: wanted[name] for name in short})
        return Cause(
            f"it requests {asked}, and no node offers more than {most}",
            f"request {most} at most, or add a larger node",
            code="request-too-large",
        )


def _cause_key(spec: KubernetesObject, wanted: Mapping[str, int], *, named: bool) -> str:
    """Return a key that is equal for Pods with the same cause.

    It does not contain whole containers: each Pod's mount a token volume with a unique name.
    """
    affinity = mapping(spec, "affinity", "nodeAffinity")
    parts = (named, wanted, _intel_requests(spec), spec.get("nodeSelector"), affinity, spec.get("tolerations"))
    return json.dumps(parts, sort_keys=True)


def _intel_requests(spec: KubernetesObject) -> Mapping[str, int]:
    """Return the requested bytes of EPC by Intel's name, by container."""
    asked = {
        text(one, "name"): amount(
            text(one, "resources", "limits", INTEL_EPC) or text(one, "resources", "requests", INTEL_EPC)
        )
        for one in [*listing(spec, "initContainers"), *listing(spec, "containers")]
    }
    return {container: size for container, size in asked.items() if size}


def _amounts(wanted: Mapping[str, int]) -> str:
    return " and ".join(f"{size} of {name}" for name, size in wanted.items())


def _unit_mistakes(wanted: Mapping[str, int]) -> Iterator[Cause]:
    for names in SETS:
        if (size := wanted.get(names.epc, 0)) >= _MISTAKEN_MIB:
            yield Cause(
                f"no node offers {size} MiB of EPC",
                f"it requests {size} MiB: {names.epc} counts MiB, so write 10 for 10 MiB, not 10Mi",
                code="unit-mistaken",
            )


def _unselected(spec: KubernetesObject, large: Sequence[KubernetesObject]) -> Cause:
    lacking = [
        f"{key}={value}"
        for key, value in mapping(spec, "nodeSelector").items()
        if not any(labels_of(node).get(key) == value for node in large)
    ]
    by = f"nodeSelector ({', '.join(lacking)})" if lacking else "nodeSelector or node affinity"
    label = next(filter(None, (_label_command(spec, node) for node in large)), "")
    return Cause(
        f"its {by} allows no node that offers the requested resource ({shown(list(map(name_of, large)))})",
        "change it in the Pod's template" + (f", or label such a node: {label}" if label else ""),
        code="nodes-not-selected",
    )


def _label_command(spec: KubernetesObject, node: KubernetesObject) -> str:
    """Return the command that labels a node for a Pod; empty if existing labels or affinity would still exclude it."""
    labels = labels_of(node)
    lacking = {key: value for key, value in mapping(spec, "nodeSelector").items() if labels.get(key) != value}
    labelled = node
    for key, value in lacking.items():
        labelled = with_label(labelled, key, value)
    if not lacking or lacking.keys() & labels.keys() or not selects(spec, labelled):
        return ""
    return f"kubectl label node {name_of(node)} {' '.join(f'{key}={value}' for key, value in lacking.items())}"
