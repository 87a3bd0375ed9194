"""Detects an update that the DaemonSet controller has stopped: no pod starts, fails or ends, and old pods remain. Pure.

With minReadySeconds the controller needs a timer to see that a new pod has been ready for long enough. There is one
timer for all pods of a DaemonSet, and an earlier one replaces a later one: docs/explanation/updates-and-faults.md. Any
event of the DaemonSet or its pods makes the controller reconcile again.

A controller whose pods are refused has not stopped: it retries by itself, and an annotation does not help.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from confcom.addon.daemons.daemon_events import creation_refusal, last_warning, pods_not_created
from confcom.addon.daemons.daemon_pods import DaemonPod, PodState, daemon_pods
from confcom.addon.model.chart_objects import own_component
from confcom.addon.model.problems import Problem
from confcom.addon.rollout.rollout import is_updating, nodes_away, pods_of
from confcom.addon.rollout.snapshot import Snapshot
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    mapping,
    name_of,
    namespace_of,
    number,
    owner_of,
    text,
    time_of,
)

RECONCILE_ANNOTATION = "confcom.internal/reconcile-at-resource-version"
"""On a DaemonSet, not on its template: writing it causes an event and changes no pod. Its value is the previous
resourceVersion of the DaemonSet, so that each write is a change."""
QUIET_SECONDS = 30.0
"""Seconds without a change, after minReadySeconds, until an update counts as stalled. The controller acts within two
seconds of minReadySeconds; if a controller manager has lost its lease, the next one takes it after 15 s, and then reads
everything."""


@dataclass(frozen=True, slots=True)
class StalledUpdate:
    """A DaemonSet whose update has stalled."""

    daemon_set: str
    namespace: str
    resource_version: str
    """The value for RECONCILE_ANNOTATION."""

    @property
    def annotation(self) -> str:
        """The annotation as an argument of `kubectl annotate`."""
        return f"{RECONCILE_ANNOTATION}={self.resource_version}"

    @property
    def remedy(self) -> str:
        """The command that makes the controller reconcile it again."""
        return f"kubectl annotate daemonset {self.daemon_set} -n {self.namespace} --overwrite {self.annotation}"


def _awaits_controller(daemon: KubernetesObject, pods: Sequence[DaemonPod], away: Collection[str]) -> bool:
    """Return whether an update is incomplete, and only the controller can continue it.

    Args:
        daemon: the DaemonSet.
        pods: its pods.
        away: nodes that are not Ready.
    """
    observed = number(daemon, "status", "observedGeneration") >= number(daemon, "metadata", "generation")
    ready = all(pod.state is PodState.READY and pod.node not in away for pod in pods)
    return observed and bool(pods) and ready and is_updating(daemon, pods, away)


def _waiting_daemon_sets(seen: Snapshot) -> Iterator[tuple[KubernetesObject, tuple[DaemonPod, ...]]]:
    away = nodes_away(seen.nodes)
    ours = [one for one in seen.daemon_sets if own_component(one, seen.namespace)]
    candidates = [one for one in ours if not _is_updated(one)]
    if not candidates:  # there may be ten thousand pods
        return
    pods = daemon_pods([pod for pod in seen.pods if namespace_of(pod) == seen.namespace])
    for daemon in candidates:
        mine = pods_of(daemon, pods)
        if _awaits_controller(daemon, mine, away):
            yield daemon, tuple(mine)


def _is_updated(daemon: KubernetesObject) -> bool:
    """Return whether no update of a DaemonSet is incomplete, by the controller's counts alone."""
    status = mapping(daemon, "status")
    return number(status, "updatedNumberScheduled") >= number(status, "currentNumberScheduled")


def _quiet_limit(daemon: KubernetesObject) -> float:
    return number(daemon, "spec", "minReadySeconds") + QUIET_SECONDS


def _stalled(daemon: KubernetesObject) -> StalledUpdate:
    return StalledUpdate(name_of(daemon), namespace_of(daemon), text(daemon, "metadata", "resourceVersion"))


@dataclass(frozen=True, slots=True)
class _QuietPeriod:
    """The time since which a DaemonSet with the same pods waits for the controller."""

    pods: frozenset[str]
    """The UIDs of its pods; a change of them is progress."""
    since: float


@dataclass(frozen=True, slots=True)
class StabilityTracker:
    """The quiet periods over all snapshots of one wait, by the waiting command's clock."""

    quiet_periods: Mapping[str, _QuietPeriod] = field(default_factory=dict)
    """By DaemonSet name."""

    def after(self, seen: Snapshot, now: float) -> tuple[StabilityTracker, tuple[StalledUpdate, ...]]:
        """Return the tracker after one more snapshot, and the stalled updates, whose quiet periods restart."""
        quiet_periods, stalled = {}, []
        for daemon, pods in _waiting_daemon_sets(seen):
            name = name_of(daemon)
            period = _QuietPeriod(frozenset(pod.uid for pod in pods), now)
            before = self.quiet_periods.get(name, period)
            if before.pods == period.pods:
                refused = creation_refusal(daemon, seen.pods, seen.events)
                if now - before.since >= _quiet_limit(daemon) and not refused:
                    stalled.append(_stalled(daemon))
                else:
                    period = before
            quiet_periods[name] = period
        return StabilityTracker(quiet_periods), tuple(stalled)


def stall_problems(seen: Snapshot, now: datetime) -> Iterator[Problem]:
    """Yield the problems with stalled updates, for `status`.

    Since `status` takes only one snapshot, the times in the pods' objects decide.

    Args:
        seen: the snapshot of the cluster; its DaemonSets were read before its pods.
        now: the time by this machine's clock.
    """
    for daemon, _ in _waiting_daemon_sets(seen):
        if refused := creation_refusal(daemon, seen.pods, seen.events):
            yield pods_not_created(daemon, refused)
            continue
        own = [pod for pod in seen.pods if text(owner_of(pod), "name") == name_of(daemon)]
        last = _last_change([pod for pod in own if namespace_of(pod) == seen.namespace])
        if last is None or (quiet := (now - last).total_seconds()) < _quiet_limit(daemon):
            continue
        warning = last_warning(name_of(daemon), seen.events)
        why = f" (its last warning: {warning})" if warning else ""
        yield Problem(
            f"the update of the DaemonSet {name_of(daemon)} has stalled for {quiet:.0f} s, and all of its Pods are "
            f"ready: the DaemonSet controller does not act{why}. This has it reconcile again: "
            f"{_stalled(daemon).remedy}",
            code="update-stalled",
        )


def _last_change(pods: Iterable[KubernetesObject]) -> datetime | None:
    stamps = [
        stamp
        for pod in pods
        for stamp in (text(pod, "metadata", "creationTimestamp"), text(condition(pod, "Ready"), "lastTransitionTime"))
    ]
    return max(filter(None, map(time_of, stamps)), default=None)
