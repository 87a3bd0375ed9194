"""The progress of a rollout on each node, and whether it has stalled. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from confcom.addon.daemons.controller_pods import UnfinishedChange, unfinished
from confcom.addon.daemons.daemon_events import creation_refusal, last_warning
from confcom.addon.daemons.daemon_pods import REVISION_LABEL, DaemonPod, PodState, daemon_pods
from confcom.addon.model.chart_objects import Component, component_of, own_component, pod_spec_of
from confcom.addon.model.node_selection import selects, untolerated
from confcom.addon.model.problems import Problem
from confcom.addon.model.resources import SETS, allocatable
from confcom.addon.rollout.snapshot import Snapshot
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    labels_of,
    name_of,
    number,
    owner_of,
    text,
)

STUCK_SECONDS = 60.0
"""How long a pod may fail before the rollout counts as stalled: long enough for several restarts and pulls, whose
back-off grows to 40 s by then."""


class Step(StrEnum):
    """A step of the rollout on a node."""

    DEVICE_PLUGIN = "device plugin"
    QUOTE_HELPER = "quote helper"
    EPC = "enclave memory"


@dataclass(frozen=True, slots=True)
class NodeStep:
    """The state of one step on one node."""

    node: str
    step: Step
    done: bool
    text: str
    """The state, and why the step is not done."""
    failing: bool = False
    """Its pod fails, and is unlikely to recover by itself."""
    serving: bool = False
    """An older pod is still ready."""
    pod: str = ""
    """The UID of the pod that has to become ready."""
    node_ready: bool = True
    """Whether the node is Ready; if not, no pod can start or end there."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The steps on all nodes, and the problems of the DaemonSets themselves."""

    steps: tuple[NodeStep, ...]
    problems: tuple[Problem, ...]
    observed: bool
    """Whether the DaemonSet controller has observed the newest templates, and all their pods are available."""
    controller: UnfinishedChange | None = None
    """Why the controller of node capacity has not reached its newest template; None if it has, or is not there."""

    @property
    def done(self) -> bool:
        """Whether the rollout is complete."""
        return self.observed and not self.problems and not self.controller and all(step.done for step in self.steps)

    @property
    def open(self) -> tuple[NodeStep, ...]:
        """The steps that are not done."""
        return tuple(step for step in self.steps if not step.done)

    @property
    def failing(self) -> bool:
        """Whether anything fails that is unlikely to recover by itself."""
        return any(step.failing for step in self.steps) or (self.controller is not None and self.controller.failing)


def rollout(seen: Snapshot) -> Rollout:
    """Return the state of a rollout."""
    daemons = [one for one in seen.daemon_sets if own_component(one, seen.namespace)]
    pods = daemon_pods(seen.pods, seen.events, seen.said)
    newest = _newest_revisions(seen.revisions)
    steps = [step for daemon in daemons for step in _steps(daemon, pods, newest)]
    steps += _missing_pods(daemons, seen.nodes, steps)
    with_plugin = {step.node for step in steps if step.step is Step.DEVICE_PLUGIN}
    steps += [_epc(node) for node in seen.nodes if name_of(node) in with_plugin]
    away = nodes_away(seen.nodes)
    steps = [_node_not_ready(step) if step.node in away and not step.done else step for step in steps]
    return Rollout(
        steps=tuple(sorted(steps, key=lambda one: (one.node, list(Step).index(one.step)))),
        problems=tuple(creation_problems(daemons, pods, seen)),
        observed=not unsettled(daemons, pods),
        controller=unfinished(seen.deployments, seen.pods, seen.events, seen.namespace),
    )


def nodes_away(nodes: Iterable[KubernetesObject]) -> frozenset[str]:
    """Return the names of the nodes that are not Ready."""
    return frozenset(name_of(one) for one in nodes if condition(one, "Ready").get("status") != "True")


def unsettled(daemons: Iterable[KubernetesObject], pods: Sequence[DaemonPod]) -> tuple[str, ...]:
    """Return the names of the DaemonSets with pods that are not of the newest template, or not available yet."""
    return tuple(name_of(one) for one in daemons if not _observed(one, pods_of(one, pods)))


def updating(daemons: Iterable[KubernetesObject], pods: Sequence[DaemonPod], away: Collection[str]) -> bool:
    """Return whether any DaemonSet's newest template has not yet reached every node that has a pod of it.

    A pod that fails, ends or cannot be created does not count as an update, and neither does a node that is down.

    Args:
        daemons: our DaemonSets.
        pods: their pods, oldest first.
        away: nodes that are not Ready.
    """
    return any(is_updating(one, pods_of(one, pods), away) for one in daemons)


def is_updating(daemon: KubernetesObject, pods: Sequence[DaemonPod], away: Collection[str]) -> bool:
    """Return whether old pods of a DaemonSet are left, by the controller's count of updated nodes.

    The controller checks the oldest pod of each node, ready or not, and does not count a node without a pod as updated.
    An old pod on a node that is not Ready stays "ending" there; if the node has a new pod too, it counts as updated
    here.
    """
    newest = pods[-1].revision if pods else ""
    alive = [pod for pod in pods if pod.state is not PodState.ENDING]
    ending = {pod.node for pod in pods if pod.state is PodState.ENDING and pod.revision != newest}
    renewed = {pod.node for pod in alive} - {pod.node for pod in alive if pod.revision != newest}
    hidden = len(ending & renewed & set(away))
    return number(daemon, "status", "observedGeneration") < number(daemon, "metadata", "generation") or number(
        daemon, "status", "updatedNumberScheduled"
    ) + hidden < number(daemon, "status", "currentNumberScheduled")


def pods_of(daemon: KubernetesObject, pods: Iterable[DaemonPod]) -> list[DaemonPod]:
    """Return the pods of a DaemonSet, in the same order."""
    return [pod for pod in pods if pod.owner == name_of(daemon)]


def _observed(daemon: KubernetesObject, pods: Sequence[DaemonPod]) -> bool:
    """Return whether all pods are updated and available, by the controller's counts, corrected for rejected pods.

    The controller judges a node by its oldest pod, so a rejected pod that is not removed yet hides the ready one. It
    removes rejected pods with a growing delay (minutes were observed after the kubelet had lost the resource for
    seconds).
    """
    desired = number(daemon, "status", "desiredNumberScheduled")
    rejecting = {pod.node for pod in pods if pod.state is PodState.REJECTED}
    hidden = len(rejecting & {pod.node for pod in pods if pod.state is PodState.READY})
    return (
        number(daemon, "status", "observedGeneration") >= number(daemon, "metadata", "generation")
        and number(daemon, "status", "updatedNumberScheduled") == desired
        and number(daemon, "status", "numberAvailable") + hidden >= desired
    )


def _newest_revisions(revisions: Sequence[KubernetesObject]) -> Mapping[str, str]:
    """Return by DaemonSet name the revision label of the pods that are made from its newest template."""
    newest: dict[str, tuple[int, str]] = {}
    for one in revisions:
        owner = text(owner_of(one), "name")
        if owner:
            found = (number(one, "revision"), labels_of(one).get(REVISION_LABEL, ""))
            newest[owner] = max(newest.get(owner, (0, "")), found)
    return {name: label for name, (_, label) in newest.items()}


def _steps(daemon: KubernetesObject, pods: Sequence[DaemonPod], newest: Mapping[str, str]) -> Iterator[NodeStep]:
    mine = pods_of(daemon, pods)
    revision = newest.get(name_of(daemon), "")
    for node in sorted({pod.node for pod in mine}):
        looked_at = number(daemon, "status", "observedGeneration") >= number(daemon, "metadata", "generation")
        all_here = [pod for pod in mine if pod.node == node]
        here = [pod for pod in all_here if pod.state is not PodState.REJECTED]
        new = [pod for pod in here if pod.revision == revision and pod.state is not PodState.ENDING]
        old = [pod for pod in here if pod not in new]
        ready = any(pod.state is PodState.READY for pod in new)
        rejected = [pod for pod in all_here if pod.state is PodState.REJECTED and (not old or pod.revision == revision)]
        yield NodeStep(
            node=node,
            step=_step_of(daemon),
            done=looked_at and ready and not old,
            text=_text(new or rejected, old, ready=ready) if looked_at else "waiting for the DaemonSet controller",
            failing=any(pod.state is PodState.FAILING for pod in new),
            serving=any(pod.state is PodState.READY for pod in old),
            pod=new[-1].uid if new else "",
        )


def _step_of(daemon: KubernetesObject) -> Step:
    return Step.DEVICE_PLUGIN if component_of(daemon) is Component.DEVICE_PLUGIN else Step.QUOTE_HELPER


def _missing_pods(
    daemons: Iterable[KubernetesObject], nodes: Sequence[KubernetesObject], steps: Sequence[NodeStep]
) -> Iterator[NodeStep]:
    """Yield a step for each node without a pod yet.

    The counts do not show these nodes at first: labelling a node does not change a DaemonSet's generation.
    """
    there = {(step.node, step.step) for step in steps}
    for daemon in daemons:
        spec, step = pod_spec_of(daemon), _step_of(daemon)
        for node in nodes:
            if selects(spec, node) and not untolerated(spec, node) and (name_of(node), step) not in there:
                yield NodeStep(name_of(node), step, done=False, text="waiting for the DaemonSet controller")


def _node_not_ready(step: NodeStep) -> NodeStep:
    return replace(step, text="waiting: its node is not Ready", node_ready=False)


def _text(new: Sequence[DaemonPod], old: Sequence[DaemonPod], *, ready: bool) -> str:
    """Return the state of a step; `new` contains rejected pods only if there are no others, since they say why."""
    if ready and not old:
        return f"ready ({new[-1].version})"
    if ready:
        return f"ready ({new[-1].version}); the old one is terminating"
    if not new:
        return "waiting for its turn; the old one serves" if old else "no Pod yet"
    last = new[-1]
    return f"{last.state}: {last.reason}" if last.reason else str(last.state)


def _epc(node: KubernetesObject) -> NodeStep:
    found = [(names.epc, count) for names in SETS if (count := allocatable(node, names.epc))]
    amounts = ", ".join(f"{count} MiB as {name}" for name, count in found)
    return NodeStep(
        name_of(node), Step.EPC, bool(found), amounts or "not reported yet; the kubelet reports every 10 seconds"
    )


def creation_problems(
    daemons: Sequence[KubernetesObject], pods: Sequence[DaemonPod], seen: Snapshot
) -> Iterator[Problem]:
    """Yield the DaemonSets that cannot create their pods, which only events report."""
    away = nodes_away(seen.nodes)
    for daemon in daemons:
        mine = pods_of(daemon, pods)
        current = min(len(mine), number(daemon, "status", "currentNumberScheduled"))
        if current < number(daemon, "status", "desiredNumberScheduled"):
            why = last_warning(name_of(daemon), seen.events)
        else:
            why = creation_refusal(daemon, seen.pods, seen.events) if is_updating(daemon, mine, away) else ""
        if why:
            yield Problem(f"the DaemonSet {name_of(daemon)} cannot create its Pods: {why}", code="pods-not-created")


class Verdict(StrEnum):
    """The result of one evaluation."""

    DONE = "done"
    WAITING = "waiting"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class ProgressTracker:
    """The completed steps, and the time of the last progress.

    Args:
        reached: all steps that were done at any time, each with its pod.
        since: the time of the last progress, in seconds of any clock.
        failing_since: since when a pod fails, counted anew after progress; None if none does.
    """

    reached: frozenset[tuple[str, Step, str]]
    since: float
    failing_since: float | None = None


def evaluate(
    tracker: ProgressTracker | None, state: Rollout, now: float, *, deadline: float
) -> tuple[ProgressTracker, Verdict]:
    """Evaluate the state of a rollout against the earlier progress.

    Args:
        tracker: from the previous evaluation; None for the first one.
        state: the current state.
        now: the current time, in seconds of the same clock.
        deadline: seconds without progress after which the rollout counts as stalled.
    """
    reached = frozenset((step.node, step.step, step.pod) for step in state.steps if step.done)
    before = tracker.reached if tracker else frozenset()
    failing_since = now if state.failing else None
    if tracker is None or reached - before:
        tracker = ProgressTracker(reached | before, now, failing_since)
    elif (failing_since is None) != (tracker.failing_since is None):
        tracker = replace(tracker, failing_since=failing_since)
    if state.done:
        return tracker, Verdict.DONE
    late = now - tracker.since >= deadline
    hopeless = tracker.failing_since is not None and now - tracker.failing_since >= STUCK_SECONDS
    return tracker, Verdict.STALLED if late or hopeless else Verdict.WAITING
