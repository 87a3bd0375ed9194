"""How far the daemons are on each node, and whether it goes on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from confcom.addon.daemon_pods import REVISION_LABEL, DaemonPod, PodState, daemon_pods, last_warning
from confcom.addon.node_selection import selects, untolerated
from confcom.addon.objects import KubernetesObject, condition, labels_of, name_of, namespace_of, number, owner_of, text
from confcom.addon.plan import Component, component_of, pod_spec_of
from confcom.addon.pod_creation import creation_refusal
from confcom.addon.resources import SETS, allocatable
from confcom.addon.snapshot import Snapshot

STUCK_SECONDS = 60.0
"""How long a pod that fails to start is watched before that counts as the end: several restarts and pulls, whose
back-off grows to 40 s by then."""


class Step(StrEnum):
    """What is waited for on a node."""

    DEVICE_PLUGIN = "device plugin"
    QUOTE_HELPER = "quote helper"
    EPC = "enclave memory"


@dataclass(frozen=True, slots=True)
class NodeStep:
    """One thing on one node."""

    node: str
    step: Step
    done: bool
    text: str
    """How it is, and why it is not done."""
    failing: bool = False
    """Its pod fails, and will hardly recover by itself."""
    serving: bool = False
    """Not done, but an older pod serves meanwhile."""
    pod: str = ""
    """The UID of the pod that is to be ready."""
    node_ready: bool = True
    """Whether the kubelet says so; if not, nothing can start there, nor end."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """All nodes, and what is wrong with the DaemonSets themselves."""

    steps: tuple[NodeStep, ...]
    problems: tuple[str, ...]
    observed: bool
    """Whether the DaemonSet controller has seen the newest templates and made all of its pods."""

    @property
    def done(self) -> bool:
        """Whether everything is as it was asked to be."""
        return self.observed and not self.problems and all(step.done for step in self.steps)

    @property
    def open(self) -> tuple[NodeStep, ...]:
        """What is not done."""
        return tuple(step for step in self.steps if not step.done)


def rollout(seen: Snapshot) -> Rollout:
    """The state of a rollout."""
    daemons = [one for one in seen.daemon_sets if component_of(one) and namespace_of(one) == seen.namespace]
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
        problems=tuple(_problems(daemons, pods, seen)),
        observed=not unsettled(daemons, pods),
    )


def nodes_away(nodes: Iterable[KubernetesObject]) -> frozenset[str]:
    """Those whose kubelet does not report that it is well."""
    return frozenset(name_of(one) for one in nodes if condition(one, "Ready").get("status") != "True")


def unsettled(daemons: Iterable[KubernetesObject], pods: Sequence[DaemonPod]) -> tuple[str, ...]:
    """The DaemonSets that have pods which are not of the newest template, or not ready for long enough."""
    return tuple(name_of(one) for one in daemons if not _observed(one, pods_of(one, pods)))


def updating(daemons: Iterable[KubernetesObject], pods: Sequence[DaemonPod], away: Collection[str]) -> bool:
    """Whether any DaemonSet's newest template has not come to every node yet that has a pod of it.

    A pod that fails, ends or cannot be made is no update, and neither is a node that is off.

    Args:
        daemons: ours.
        pods: theirs, the older ones first.
        away: nodes whose kubelet does not report.
    """
    return any(is_updating(one, pods_of(one, pods), away) for one in daemons)


def is_updating(daemon: KubernetesObject, pods: Sequence[DaemonPod], away: Collection[str]) -> bool:
    """Say whether old pods of a DaemonSet are left, by the controller's count of updated nodes.

    The controller looks at the oldest pod of each node, ready or not, and counts no node without a pod as updated. An
    old pod on a node whose kubelet is away stays "ending" there; if the node has a new pod, it counts as updated here.
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
    """A DaemonSet's own, in the same order."""
    return [pod for pod in pods if pod.owner == name_of(daemon)]


def _observed(daemon: KubernetesObject, pods: Sequence[DaemonPod]) -> bool:
    """The controller's count, but that a rejected pod which it has not removed yet hides the ready one of its node.

    It judges a node by the oldest pod, and removes what the kubelet rejected more and more slowly (minutes were seen,
    where the kubelet had lost the resource for seconds).
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
    """By the DaemonSet's name: the label of the pods that are made from its newest template."""
    newest: dict[str, tuple[int, str]] = {}
    for one in revisions:
        owner = text(owner_of(one), "name")
        if owner:
            found = (number(one, "revision"), labels_of(one).get(REVISION_LABEL, ""))
            newest[owner] = max(newest.get(owner, (0, "")), found)
    return {name: label for name, (_, label) in newest.items()}


def _steps(daemon: KubernetesObject, pods: Sequence[DaemonPod], newest: Mapping[str, str]) -> Iterator[NodeStep]:
    step = _step_of(daemon)
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
            step=step,
            done=looked_at and ready and not old,
            text=_text(new or rejected, old, ready=ready) if looked_at else "waits for the DaemonSet controller",
            failing=any(pod.state is PodState.FAILING for pod in new),
            serving=any(pod.state is PodState.READY for pod in old),
            pod=new[-1].uid if new else "",
        )


def _step_of(daemon: KubernetesObject) -> Step:
    return Step.DEVICE_PLUGIN if component_of(daemon) is Component.DEVICE_PLUGIN else Step.QUOTE_HELPER


def _missing_pods(
    daemons: Iterable[KubernetesObject], nodes: Sequence[KubernetesObject], steps: Sequence[NodeStep]
) -> Iterator[NodeStep]:
    """Of nodes for which the controller has made no pod yet: a new label changes no DaemonSet's generation."""
    there = {(step.node, step.step) for step in steps}
    for daemon in daemons:
        spec, step = pod_spec_of(daemon), _step_of(daemon)
        for node in nodes:
            if selects(spec, node) and not untolerated(spec, node) and (name_of(node), step) not in there:
                yield NodeStep(name_of(node), step, done=False, text="waits for the DaemonSet controller")


def _node_not_ready(step: NodeStep) -> NodeStep:
    return replace(step, text="waits: its node is not Ready", node_ready=False)


def _text(new: Sequence[DaemonPod], old: Sequence[DaemonPod], *, ready: bool) -> str:
    """How it is; new ones that the kubelet has rejected count where there are no others, since they say why."""
    if ready and not old:
        return f"ready ({new[-1].version})"
    if ready:
        return f"ready ({new[-1].version}); the old one ends"
    if not new:
        return "waits for its turn; the old one serves" if old else "no Pod yet"
    last = new[-1]
    return f"{last.state}: {last.reason}" if last.reason else str(last.state)


def _epc(node: KubernetesObject) -> NodeStep:
    found = [(names.epc, count) for names in SETS if (count := allocatable(node, names.epc))]
    told = ", ".join(f"{count} MiB as {name}" for name, count in found)
    return NodeStep(
        name_of(node), Step.EPC, bool(found), told or "not reported yet; the kubelet does so every 10 seconds"
    )


def _problems(daemons: Sequence[KubernetesObject], pods: Sequence[DaemonPod], seen: Snapshot) -> Iterator[str]:
    """DaemonSets that cannot make their pods: only an event says so."""
    away = nodes_away(seen.nodes)
    for daemon in daemons:
        mine = pods_of(daemon, pods)
        why = ""
        if len(mine) < number(daemon, "status", "desiredNumberScheduled"):
            why = last_warning(name_of(daemon), seen.events)
        elif is_updating(daemon, mine, away):
            why = creation_refusal(daemon, seen.pods, seen.events)
        if why:
            yield f"{namespace_of(daemon)}/{name_of(daemon)}: cannot make its Pods: {why}"


class Verdict(StrEnum):
    """Whether waiting makes sense."""

    DONE = "done"
    WAITING = "waiting"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class ProgressTracker:
    """What has been reached, and since when nothing more was.

    Args:
        reached: grows with every step that is done, each by its pod.
        since: when it grew last, in seconds of any clock.
        failing_since: since when a pod fails.
    """

    reached: frozenset[tuple[str, Step, str]]
    since: float
    failing_since: float | None = None


def evaluate(
    tracker: ProgressTracker | None, state: Rollout, now: float, *, deadline: float
) -> tuple[ProgressTracker, Verdict]:
    """Judge one look at a rollout by what the looks before saw.

    Args:
        tracker: from the look before.
        state: now.
        now: seconds of the same clock.
        deadline: seconds without progress after which it is taken for stuck.
    """
    reached = frozenset((step.node, step.step, step.pod) for step in state.steps if step.done)
    failing = any(step.failing for step in state.steps)
    if tracker is None or reached - tracker.reached:
        tracker = ProgressTracker(
            reached | (tracker.reached if tracker else frozenset()), now, now if failing else None
        )
    elif failing != (tracker.failing_since is not None):
        tracker = ProgressTracker(tracker.reached, tracker.since, now if failing else None)
    if state.done:
        return tracker, Verdict.DONE
    late = now - tracker.since >= deadline
    hopeless = tracker.failing_since is not None and now - tracker.failing_since >= STUCK_SECONDS
    return tracker, Verdict.STALLED if late or hopeless else Verdict.WAITING
