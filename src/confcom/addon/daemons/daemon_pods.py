"""A daemon's pod: its state, and why it is not ready. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.daemons.daemon_events import joined, last_warning
from confcom.addon.daemons.daemon_log import Reason, own_reason
from confcom.addon.daemons.oom_kill import memory_kill
from confcom.addon.daemons.sidecar import sidecar_failure
from confcom.addon.model.chart_objects import Component, component_of
from confcom.errors import printable
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    container_statuses,
    labels_of,
    listing,
    mapping,
    name_of,
    node_of,
    number,
    owner_of,
    text,
)

REVISION_LABEL = "controller-revision-hash"
"""The label on a DaemonSet's pods and revisions that identifies the template of a pod."""
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
"""The kubelet's waiting reasons that seldom go away without intervention."""
MAX_REASON_CHARACTERS = 300
"""Container runtimes repeat themselves; the first sentences say what failed."""
_MAX_RAW_CHARACTERS = 10 * MAX_REASON_CHARACTERS
"""How much of the original text is read: enough, with the line feeds and indents that are removed."""
_MANY_RESTARTS = 2
"""A container that was restarted this often and is not ready counts as failing, even while it runs again."""
_UNINFORMATIVE_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waiting reasons that do not explain anything; an event may."""


class PodState(StrEnum):
    """The state of a daemon's pod."""

    READY = "ready"
    STARTING = "starting"
    NOT_READY = "not ready"
    FAILING = "failing"
    """It does not start, and is unlikely to start without intervention."""
    WAITING = "waiting"
    """The scheduler has found no node for it."""
    ENDING = "ending"
    REJECTED = "rejected"
    """The kubelet rejected it; the DaemonSet controller creates another one."""


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
    reason_code: str
    """The code that the daemon logged with the reason, or that of the sidecar's failure; empty: there is none."""
    version: str
    """Its image's tag, or the first digits of its digest."""
    image: str
    owner: str
    """Its DaemonSet's name."""
    revision: str
    """The revision of the DaemonSet's template that it was created from."""

    def to_json(self) -> dict[str, str]:
        """Return it for `--output json`."""
        return {
            "pod": self.name,
            "state": self.state,
            "reason": self.reason,
            "reason_code": self.reason_code,
            "version": self.version,
            "image": self.image,
        }


def daemon_pods(
    pods: Sequence[KubernetesObject], events: Sequence[KubernetesObject] = (), said: Mapping[str, Reason] | None = None
) -> tuple[DaemonPod, ...]:
    """Return all pods of the two daemons, oldest first.

    Args:
        pods: those of the add-on's namespace.
        events: those of that namespace.
        said: by the pod's name, the reason in its own log why it is not ready.
    """
    ours = sorted(pods, key=lambda pod: (text(pod, "metadata", "creationTimestamp"), name_of(pod)))
    about = defaultdict[str, list[KubernetesObject]](list)  # an index: a thousand failing daemons have events each
    for event in events:
        about[text(event, "involvedObject", "name")].append(event)
    return tuple(
        _daemon_pod(pod, component, about[name_of(pod)], said or {}) for pod in ours if (component := component_of(pod))
    )


def pods_needing_logs(pods: Sequence[KubernetesObject]) -> tuple[str, ...]:
    """Return the names of the daemons' pods that run, or ran, and are not ready: only their logs say why."""
    return tuple(
        name_of(pod) for pod in pods if component_of(pod) and _state(pod) in _STATES_WITH_LOGS and _has_run(pod)
    )


def version_of(image: str) -> str:
    """Return an image reference's tag, or the first digits of its digest if it has one."""
    reference, _, digest = image.partition("@")
    if digest:
        return digest[: len("sha256:") + 12]
    tag = reference.rpartition("/")[2].partition(":")[2]
    return tag or "latest"


def pod_reason(pod: KubernetesObject, events: Sequence[KubernetesObject] = ()) -> tuple[PodState, str]:
    """Return a pod's state, and on one line why it is not ready; the pod need not be a daemon's."""
    state = _state(pod)
    return state, _reason(pod, state, events, {}).text


def _reason(
    pod: KubernetesObject, state: PodState, events: Sequence[KubernetesObject], said: Mapping[str, Reason]
) -> Reason:
    """Return why a pod is not ready, on one line."""
    reason = Reason() if state is PodState.READY else next(_reasons(pod, state, events, said))
    words = printable(" ".join(reason.text[:_MAX_RAW_CHARACTERS].split()))
    cut = words if len(words) <= MAX_REASON_CHARACTERS else f"{words[:MAX_REASON_CHARACTERS]} ..."
    return Reason(cut, reason.code)


def _daemon_pod(
    pod: KubernetesObject, component: Component, events: Sequence[KubernetesObject], said: Mapping[str, Reason]
) -> DaemonPod:
    state = _state(pod)
    reason = _reason(pod, state, events, said)
    image = next((text(one, "image") for one in listing(pod, "spec", "containers")), "")
    return DaemonPod(
        name=name_of(pod),
        uid=text(pod, "metadata", "uid"),
        node=node_of(pod),
        component=component,
        state=state,
        reason=reason.text,
        reason_code=reason.code,
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
        for one in container_statuses(pod)
    ):
        return PodState.FAILING
    running = [one for one in listing(pod, "status", "containerStatuses") if mapping(one, "state", "running")]
    return PodState.NOT_READY if running else PodState.STARTING


def _has_run(pod: KubernetesObject) -> bool:
    return any(
        mapping(one, "state", "running") or mapping(one, "lastState", "terminated")
        for one in listing(pod, "status", "containerStatuses")
    )


def _reasons(
    pod: KubernetesObject, state: PodState, events: Sequence[KubernetesObject], said: Mapping[str, Reason]
) -> Iterator[Reason]:
    """Yield the reasons why a pod is not ready, the most specific first."""
    if state is PodState.ENDING:
        yield Reason("it is terminating")
    if state is PodState.REJECTED:
        yield Reason(joined(text(pod, "status", "reason"), text(pod, "status", "message")))
    if state is PodState.WAITING:
        scheduled = condition(pod, "PodScheduled")
        yield Reason(joined(text(scheduled, "reason"), text(scheduled, "message")))
    logged = said.get(name_of(pod), Reason())
    sidecar = sidecar_failure(pod)
    if sidecar.text:
        yield sidecar
    yield from _container_reasons(pod, logged)
    if logged.text:
        yield Reason(f"its log: {logged.text}", logged.code)
    yield from map(Reason, filter(None, (memory_kill(pod, one) for one in container_statuses(pod))))
    warning = last_warning(name_of(pod), events)
    if warning:
        yield Reason(warning)
    if state is PodState.NOT_READY:
        yield Reason(text(condition(pod, "Ready"), "message"))
    yield Reason("its containers are starting")


def _container_reasons(pod: KubernetesObject, logged: Reason) -> Iterator[Reason]:
    """Yield why containers that do not run have ended or are waiting."""
    for one in container_statuses(pod):
        waiting = text(one, "state", "waiting", "reason")
        if not mapping(one, "state", "running") and (killed := memory_kill(pod, one)):
            yield Reason(killed)
        if waiting in _UNINFORMATIVE_REASONS:
            continue
        ended = mapping(one, "lastState", "terminated")
        if waiting == "CrashLoopBackOff" and ended:
            ending = f"exit code {number(ended, 'exitCode')}, {number(one, 'restartCount')} restarts"
            told = own_reason(text(ended, "message"))  # the end of its log: the chart sets FallbackToLogsOnError
            last = told if told.text else logged
            yield Reason(joined(waiting, joined(ending, last.text)), last.code)
        yield Reason(joined(waiting, text(one, "state", "waiting", "message")))
