"""The status of the add-on in a cluster, and its problems. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from confcom.addon.daemons.controller_pods import controller_problems, maximum_mib
from confcom.addon.daemons.daemon_pods import daemon_pods
from confcom.addon.daemons.hardware_helpers import HardwareHelpers, Note, hardware_helpers, notes_on
from confcom.addon.daemons.root_comparison import root_doubts, root_problems
from confcom.addon.model.chart_objects import (
    ADD_ON,
    NAME_LABEL,
    POLICY_ANNOTATION,
    node_labels,
    own_component,
    pod_spec_of,
    simulates,
)
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import Problem, ProblemGroup, grouped
from confcom.addon.model.resources import offered
from confcom.addon.model.sgx_nodes import SgxKind
from confcom.addon.release.drift import Drift, ReleaseSeen
from confcom.addon.release.drift_report import change_problem, drift_problem, to_json
from confcom.addon.rollout.hook_job import failed_hooks
from confcom.addon.rollout.rollout import creation_problems, unsettled, updating
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.api_server_notes import api_server_notes
from confcom.addon.status.epc_status import accounting_doubts, accounting_notes
from confcom.addon.status.node_status import NodeStatus, node_status
from confcom.addon.status.node_summary import summarised
from confcom.addon.status.socket_holders import may_serve
from confcom.addon.status.stale_resources import Stage, stale_resources
from confcom.addon.workloads.refused_pods import refused_workloads
from confcom.addon.workloads.workloads import TroubledWorkload, troubled_workloads
from confcom.kubernetes.objects import (
    KubernetesObject,
    labels_of,
    name_of,
    namespace_of,
    node_of,
    text,
)

T = TypeVar("T")
_VERSION_LABEL = "app.kubernetes.io/version"


@dataclass(frozen=True, slots=True)
class AddOnStatus:
    """The status of the add-on in a cluster."""

    namespace: str
    enabled: bool
    simulated: bool
    version: str
    """The DaemonSets' version label; several versions during an update that changes it."""
    updating: bool
    """Whether the daemons' newest template has not reached every node yet."""
    nodes: tuple[NodeStatus, ...]
    """Nodes with SGX, with our daemons or with our resources."""
    other_nodes: int
    """The number of other nodes."""
    workloads: tuple[TroubledWorkload, ...]
    problems: tuple[Problem, ...]
    """The problems of the whole cluster and of every node."""
    drifts: tuple[Drift, ...] = ()
    """Differences between the cluster and the release; they are also among `problems`."""
    doubts: tuple[Problem, ...] = ()
    """What was not compared, and why."""
    hardware_helpers: tuple[HardwareHelpers, ...] = ()
    """The quote helpers of hardware nodes, by DaemonSet."""
    api_server_notes: tuple[Note, ...] = ()
    """What must be known of an API server that is or was too old for some things."""
    pod_names: frozenset[str] = frozenset()
    """Names of Pods that texts of problems may contain; the same problem differs in them between nodes."""

    @property
    def ok(self) -> bool:
        """Whether it is enabled and nothing is wrong with the add-on itself."""
        return self.enabled and not self.problems and not self.updating

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must be known of the add-on even if nothing is wrong."""
        accounting = accounting_notes({node.name: node.epc for node in self.nodes})
        return (*notes_on(self.hardware_helpers), *self.api_server_notes, *accounting)

    @property
    def problem_groups(self) -> tuple[ProblemGroup, ...]:
        """Similar problems, grouped; consequences of a node that is not Ready are left out."""
        follows = {one for node in self.nodes for one in set(node.problems).difference(node.causes)}
        return grouped((one for one in self.problems if one not in follows), self._names)

    @property
    def doubt_groups(self) -> tuple[ProblemGroup, ...]:
        """Similar doubts, grouped."""
        return grouped(self.doubts, self._names)

    @property
    def _names(self) -> frozenset[str]:
        return self.pod_names | {node.name for node in self.nodes}

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        return {
            "enabled": self.enabled,
            "ok": self.ok,
            "namespace": self.namespace,
            "version": self.version,
            "simulated": self.simulated,
            "hardware_quote_helpers": [one.to_json() for one in self.hardware_helpers],
            "notes": [one.to_json() for one in self.notes],
            "update_in_progress": self.updating,
            "nodes": [node.to_json() for node in self.nodes],
            "nodes_without_sgx": self.other_nodes,
            "nodes_well": [summary.to_json() for summary in summarised(self.nodes)],
            "workloads": [workload.to_json() for workload in self.workloads],
            "problems": list(map(str, self.problems)),
            "problem_details": [one.to_json() for one in self.problems],
            "problem_groups": [group.to_json() for group in self.problem_groups],
            "drift": [to_json(one) for one in self.drifts],
            "not_compared": list(map(str, self.doubts)),
            "not_compared_details": [one.to_json() for one in self.doubts],
        }


def add_on_status(seen: Snapshot, now: datetime) -> AddOnStatus:
    """Return the status of the add-on."""
    here = seen.namespace
    daemons = [one for one in seen.daemon_sets if own_component(one, here)]
    pods = daemon_pods([pod for pod in seen.pods if namespace_of(pod) == here], seen.events, seen.said)
    release = seen.release or ReleaseSeen()
    ours_on, all_on = _by_node(pods, lambda pod: pod.node), _by_node(seen.pods, node_of)
    most = maximum_mib(seen.pods, here)
    told = seen.epc.plugins
    nodes = [
        node_status(node, ours_on[name], all_on[name], daemons, namespace=here, told=told.get(name), maximum=most)
        for name, node in zip(map(name_of, seen.nodes), seen.nodes, strict=True)
    ]
    listed = [one for node, one in zip(seen.nodes, nodes, strict=True) if _is_listed(one, node)]
    problems = [*_cluster_problems(seen, daemons, now), *creation_problems(daemons, pods, seen)]
    problems += [problem for node in listed for problem in node.problems]
    going_on = updating(daemons, pods, {one.name for one in nodes if not one.ready})
    if not problems and not going_on:
        waiting = unsettled(daemons, pods)
        problems += [_unavailable(one) for one in daemons if name_of(one) in waiting]
    return AddOnStatus(
        namespace=here,
        enabled=bool(daemons),
        simulated=any(simulates(daemon) for daemon in daemons),
        version=", ".join(sorted({text(one, "metadata", "labels", _VERSION_LABEL) for one in daemons})),
        updating=going_on,
        nodes=tuple(listed),
        other_nodes=len(nodes) - len(listed),
        workloads=_workloads(seen, daemons),
        problems=tuple(dict.fromkeys(problems)),
        drifts=release.drifts,
        doubts=tuple(_doubts(seen, release)) if daemons else (),
        hardware_helpers=hardware_helpers(daemons),
        api_server_notes=tuple(api_server_notes(daemons, seen.api_server)),
        pod_names=frozenset({pod.name for pod in pods} | {name_of(pod) for pod in seen.pods if may_serve(pod, here)}),
    )


def admission_policies(daemons: Iterable[KubernetesObject]) -> frozenset[str]:
    """Return the names of the admission policies that were installed with the daemons, from their annotation."""
    return frozenset(text(daemon, "metadata", "annotations", POLICY_ANNOTATION) for daemon in daemons) - {""}


def _workloads(seen: Snapshot, daemons: Sequence[KubernetesObject]) -> tuple[TroubledWorkload, ...]:
    troubled = troubled_workloads(seen.nodes, seen.pods, seen.jobs, namespace=seen.namespace)
    if seen.refusals is None:
        return troubled
    ours = {(namespace_of(one), name_of(one)) for one in daemons}  # these are reported among the problems
    refused = refused_workloads(seen.refusals, admission_policies(daemons), seen.pods)
    return (*troubled, *(one for one in refused if (one.namespace, one.name) not in ours))


def _doubts(seen: Snapshot, release: ReleaseSeen) -> Iterator[Problem]:
    if release.doubt:
        yield Problem(release.doubt, code="release-not-compared")
    if seen.refusals is not None and seen.refusals.doubt:
        yield Problem(seen.refusals.doubt, code="refused-pods-not-read")
    yield from root_doubts(seen.root, seen.namespace)
    yield from accounting_doubts(seen.epc)


def _by_node(pods: Iterable[T], node: Callable[[T], str]) -> defaultdict[str, list[T]]:
    """Group pods by node, once for all nodes: a cluster has thousands of pods, most of them on nodes without SGX."""
    found: defaultdict[str, list[T]] = defaultdict(list)
    for pod in pods:
        found[node(pod)].append(pod)
    return found


def _is_listed(status: NodeStatus, node: KubernetesObject) -> bool:
    return bool(status.sgx is not SgxKind.NONE or status.plugins or status.helpers or offered(node))


def _cluster_problems(seen: Snapshot, daemons: Sequence[KubernetesObject], now: datetime) -> Iterator[Problem]:
    yield from _add_on_problems(seen, daemons, now)
    yield from root_problems(seen.root, daemons, seen.namespace) if daemons else _leftovers(seen.nodes)


def _add_on_problems(seen: Snapshot, daemons: Sequence[KubernetesObject], now: datetime) -> Iterator[Problem]:
    for job, why in failed_hooks([job for job in seen.jobs if namespace_of(job) == seen.namespace]).items():
        do = (
            "the daemons run unchanged; `confcom rollback` undoes the change"
            if daemons
            else "run `confcom enable` again"
        )
        yield Problem(
            f"helm's Job {job} failed, and the last change was not applied ({why}): {do}", code="hook-job-failed"
        )
    elsewhere = {
        namespace_of(one)
        for one in seen.daemon_sets
        if labels_of(one).get(NAME_LABEL) == ADD_ON and namespace_of(one) != seen.namespace
    }
    yield from _release_problems(seen, daemons, now)
    if not daemons:
        there = f"; it is installed in {', '.join(sorted(elsewhere))} (--namespace)" if elsewhere else ""
        yield Problem(f"the add-on is not enabled in the namespace {seen.namespace}{there}", code="not-enabled")
        return
    if not any(selects(pod_spec_of(daemon), node) for daemon in daemons for node in seen.nodes):
        wanted = ", ".join(node_labels(daemons))
        yield Problem(f"no node runs the daemons; they need nodes labelled {wanted}", code="no-nodes")
    yield from _policy_problems(seen, daemons)
    yield from controller_problems(daemons, seen.pods, seen.events, seen.namespace)


def _unavailable(daemon: KubernetesObject) -> Problem:
    """Return the problem of a DaemonSet whose pods are not all available, if no other problem explains that."""
    return Problem(
        f"not all Pods of the DaemonSet {name_of(daemon)} count as available yet: the DaemonSet controller has not "
        "counted them",
        code="pods-not-available",
    )


def _release_problems(seen: Snapshot, daemons: Sequence[KubernetesObject], now: datetime) -> Iterator[Problem]:
    """Yield problems of helm's release record, and drifts; problems that other checks report are left out."""
    if seen.release is None:
        return
    hook_failed = any(failed_hooks([job for job in seen.jobs if namespace_of(job) == seen.namespace]))
    if not hook_failed and (problem := change_problem(seen.release, now)):
        yield Problem(problem, code="change-unfinished")
    policies = {(kind, name) for name, kinds in _missing_policies(seen, daemons) for kind in kinds}
    for drift in seen.release.drifts:
        if (drift.kind, drift.name) in policies:
            continue
        if drift.gone:
            yield Problem(drift_problem(drift), code="object-missing")
        else:
            yield Problem(drift_problem(drift), code="object-changed")


def _policy_problems(seen: Snapshot, daemons: Sequence[KubernetesObject]) -> Iterator[Problem]:
    """Yield a problem for each installed policy that is missing or not bound, which makes no Pod fail."""
    for name, gone in _missing_policies(seen, daemons):
        yield Problem(
            f"the {' and the '.join(gone)} {name} {'is' if len(gone) == 1 else 'are'} missing, which restrict who may "
            "request the provision device: `confcom enable` restores it",
            code="policy-missing",
        )


def _missing_policies(seen: Snapshot, daemons: Sequence[KubernetesObject]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name and the missing kinds of each policy that the daemons' annotation names.

    The annotation is readable also by users who may not read the release.
    """
    if seen.policies is None:
        return
    there = {(text(one, "kind"), name_of(one)) for one in seen.policies}
    for name in sorted(admission_policies(daemons)):
        kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        if gone := [kind for kind in kinds if (kind, name) not in there]:
            yield name, gone


def _leftovers(nodes: Sequence[KubernetesObject]) -> Iterator[Problem]:
    for node in nodes:
        if stale_resources(node).stage not in {Stage.CLEAN, Stage.OFFERED}:
            yield Problem(
                "the node still has resources of an earlier installation: `confcom disable` removes them",
                name_of(node),
                code="resources-left",
            )
