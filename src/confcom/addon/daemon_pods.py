"""A daemon's pod: how it is, and why it is not ready. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.daemon_log import own_reason
from confcom.addon.memory_kill import memory_kill
from confcom.addon.objects import (
    KubernetesObject,
    condition,
    labels_of,
    listing,
    mapping,
    name_of,
    node_of,
    number,
    owner_of,
    text,
)
from confcom.addon.plan import Component, component_of
from confcom.errors import printable

REVISION_LABEL = "controller-revision-hash"
"""On a DaemonSet's pods and revisions: which template a pod was made from."""
_FAILURE_REASONS = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""The kubelet's waiting reasons that seldom go away by themselves."""
_HARMLESS_WARNINGS = frozenset({"MissingClusterDNS", "DNSConfigForming", "FailedScheduling"})
"""Warnings that keep no pod from starting; the scheduler's are in the pod itself while they hold."""
MAX_REASON_CHARACTERS = 300
"""Runtimes repeat themselves: the first sentences say what failed."""
_MAX_RAW_CHARACTERS = 10 * MAX_REASON_CHARACTERS
"""Of which it is made: enough for the line feeds and indents that are left out."""
_MANY_RESTARTS = 2
"""A container that ended this often and is not ready again is failing, also while it runs once more."""
_UNINFORMATIVE_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waiting reasons that say nothing: an event may."""


class PodState(StrEnum):
    """How a daemon's pod is."""

    READY = "ready"
    STARTING = "starting"
    NOT_READY = "not ready"
    FAILING = "failing"
    """It does not start, and will hardly do so by itself."""
    WAITING = "waiting"
    """The scheduler has found no place for it."""
    ENDING = "ending"
    REJECTED = "rejected"
    """The kubelet refused it; the DaemonSet makes another one."""


_STATES_WITH_LOGS = frozenset({PodState.NOT_READY, PodState.FAILING})


@dataclass(frozen=True, slots=True)
class DaemonPod:
    """One pod of a daemon."""

    name: str
    uid: str
    node: str
    component: Component
    state: PodState
    reason: str
    """Why it is not ready; empty if it is."""
    version: str
    """Its image's tag, or the beginning of its digest."""
    image: str
    owner: str
    """Its DaemonSet's name."""
    revision: str
    """Which template of its DaemonSet it was made from."""

    def to_json(self) -> dict[str, str]:
        """For `--output json`."""
        return {
            "pod": self.name,
            "state": self.state,
            "reason": self.reason,
            "version": self.version,
            "image": self.image,
        }


def daemon_pods(
    pods: Sequence[KubernetesObject], events: Sequence[KubernetesObject] = (), said: Mapping[str, str] | None = None
) -> tuple[DaemonPod, ...]:
    """All pods of the two daemons, the older ones first.

    Args:
        pods: of the add-on's namespace.
        events: of that namespace.
        said: by the pod's name, why it is not ready by its own log, for those that run.
    """
    ours = sorted(pods, key=lambda pod: (text(pod, "metadata", "creationTimestamp"), name_of(pod)))
    about = defaultdict[str, list[KubernetesObject]](list)  # of a thousand daemons that fail, each has its events
    for event in events:
        about[text(event, "involvedObject", "name")].append(event)
    return tuple(
        _daemon_pod(pod, component, about[name_of(pod)], said or {}) for pod in ours if (component := component_of(pod))
    )


def pods_needing_logs(pods: Sequence[KubernetesObject]) -> tuple[str, ...]:
    """The names of those that run, or ran, and are not ready: only they themselves know why."""
    return tuple(
        name_of(pod) for pod in pods if component_of(pod) and _state(pod) in _STATES_WITH_LOGS and _has_run(pod)
    )


def version_of(image: str) -> str:
    """The tag, or the digest's first digits where it decides."""
    reference, _, digest = image.partition("@")
    if digest:
        return digest[: len("sha256:") + 12]
    tag = reference.rpartition("/")[2].partition(":")[2]
    return tag or "latest"


def pod_reason(
    pod: KubernetesObject, events: Sequence[KubernetesObject] = (), said: Mapping[str, str] | None = None
) -> tuple[PodState, str]:
    """How any pod is, and why it is not ready; the reason is on one line."""
    state = _state(pod)
    reason = "" if state is PodState.READY else next(_reasons(pod, state, events, said or {}), "")
    words = printable(" ".join(reason[:_MAX_RAW_CHARACTERS].split()))
    return state, words if len(words) <= MAX_REASON_CHARACTERS else f"{words[:MAX_REASON_CHARACTERS]} ..."


def _daemon_pod(
    pod: KubernetesObject, component: Component, events: Sequence[KubernetesObject], said: Mapping[str, str]
) -> DaemonPod:
    state, reason = pod_reason(pod, events, said)
    image = next((text(one, "image") for one in listing(pod, "spec", "containers")), "")
    return DaemonPod(
        name=name_of(pod),
        uid=text(pod, "metadata", "uid"),
        node=node_of(pod),
        component=component,
        state=state,
        reason=reason,
        version=version_of(image),
        image=image,
        owner=text(owner_of(pod), "name"),
        revision=labels_of(pod).get(REVISION_LABEL, ""),
    )


def _state(pod: KubernetesObject) -> PodState:
    if text(pod, "metadata", "deletionTimestamp"):
        return PodState.ENDING
    if text(pod, "status", "phase") == "Failed":
        return PodState.REJECTED
    if condition(pod, "Ready").get("status") == "True":
        return PodState.READY
    if condition(pod, "PodScheduled").get("status") == "False":
        return PodState.WAITING
    if any(
        text(one, "state", "waiting", "reason") in _FAILURE_REASONS or number(one, "restartCount") >= _MANY_RESTARTS
        for one in _containers(pod)
    ):
        return PodState.FAILING
    running = [one for one in listing(pod, "status", "containerStatuses") if mapping(one, "state", "running")]
    return PodState.NOT_READY if running else PodState.STARTING


def _has_run(pod: KubernetesObject) -> bool:
    return any(
        mapping(one, "state", "running") or mapping(one, "lastState", "terminated")
        for one in listing(pod, "status", "containerStatuses")
    )


def _containers(pod: KubernetesObject) -> list[KubernetesObject]:
    return [*listing(pod, "status", "initContainerStatuses"), *listing(pod, "status", "containerStatuses")]


def _reasons(
    pod: KubernetesObject, state: PodState, events: Sequence[KubernetesObject], said: Mapping[str, str]
) -> Iterator[str]:
    """The best one first."""
    if state is PodState.ENDING:
        yield "it was told to end"
    if state is PodState.REJECTED:
        yield _joined(text(pod, "status", "reason"), text(pod, "status", "message"))
    if state is PodState.WAITING:
        scheduled = condition(pod, "PodScheduled")
        yield _joined(text(scheduled, "reason"), text(scheduled, "message"))
    yield from _container_reasons(pod, said)
    if complaint := said.get(name_of(pod)):
        yield f"it says: {complaint}"
    yield from filter(None, (memory_kill(pod, one) for one in _containers(pod)))
    warning = last_warning(name_of(pod), events)
    if warning:
        yield warning
    if state is PodState.NOT_READY:
        yield text(condition(pod, "Ready"), "message")
    yield "its containers are being started"


def _container_reasons(pod: KubernetesObject, said: Mapping[str, str]) -> Iterator[str]:
    """Why containers that do not run do not."""
    for one in _containers(pod):
        waiting = text(one, "state", "waiting", "reason")
        if not mapping(one, "state", "running") and (killed := memory_kill(pod, one)):
            yield killed
        if waiting in _UNINFORMATIVE_REASONS:
            continue
        ended = mapping(one, "lastState", "terminated")
        if waiting == "CrashLoopBackOff" and ended:
            code = f"exit code {number(ended, 'exitCode')}, {number(one, 'restartCount')} restarts"
            told = text(ended, "message")  # the last of its log, as the chart has it
            yield _joined(waiting, _joined(code, own_reason(told) or said.get(name_of(pod), "")))
        yield _joined(waiting, text(one, "state", "waiting", "message"))


def last_warning(name: str, events: Sequence[KubernetesObject]) -> str:
    """The latest warning about an object."""
    about = [
        event
        for event in events
        if text(event, "involvedObject", "name") == name
        and text(event, "type") == "Warning"
        and text(event, "reason") not in _HARMLESS_WARNINGS
    ]
    latest = max(about, key=event_time, default=None)
    return _joined(text(latest, "reason"), text(latest, "message")) if latest else ""


def event_time(event: KubernetesObject) -> str:
    """When an event was seen last, as the API server writes it."""
    return (
        text(event, "series", "lastObservedTime")
        or text(event, "lastTimestamp")
        or text(event, "eventTime")
        or text(event, "metadata", "creationTimestamp")
    )


def _joined(first: str, second: str) -> str:
    return f"{first}: {second}" if first and second else first or second
