"""The Pods of the add-on's own daemons: their states, and why they are not ready. Pure.

A daemon's log also contains lines that its clients cause. Any process on a node can cause such a line, so no such
line counts as the reason why a daemon is not ready.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from confcom.addon.chart_objects import AESMD
from confcom.errors import printable, shortened
from confcom.kubernetes import names, objects
from confcom.kubernetes.names import Component
from confcom.kubernetes.objects import KubernetesObject, condition, listing, mapping, name_of, number, text

REVISION_LABEL = "controller-revision-hash"
FAILED_CREATE = "FailedCreate"
_HARMLESS_WARNINGS = frozenset({"MissingClusterDNS", "DNSConfigForming", "FailedScheduling", "FailedDaemonPod"})
"""Reasons of ignored warning events. Such events do not harm a Pod's start, or only repeat its status."""
IMAGE_REASONS = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"})
"""The kubelet's reasons why a container waits for its image. It tries again after the first two."""
CREATION_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_FAILURE_REASONS = IMAGE_REASONS | CREATION_REASONS | {"CrashLoopBackOff"}
"""The kubelet's reasons why a container waits. With these reasons, a container seldom starts by itself."""
_UNINFORMATIVE_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
_NOT_YET = re.compile(r"Unhealthy: (Readiness|Startup) probe failed: .*(connection refused|statuscode: 503)")
"""Probe warnings about a daemon that does not listen yet, or that answers 503 and logs the reason itself."""
_MANY_RESTARTS = 2
"""A Pod that is not ready counts as failing after this many restarts of a container, even if it runs now."""
_ERROR_LINES = 3
"""The number of lines of the error that an ending program of the add-on prints (confcom.errors.explain)."""


class PodState(StrEnum):
    READY = "ready"
    STARTING = "starting"
    NOT_READY = "not ready"
    FAILING = "failing"
    """The Pod is unlikely to become ready unless somebody intervenes."""
    WAITING = "waiting"
    ENDING = "ending"
    REJECTED = "rejected"
    """The kubelet rejected the Pod; the DaemonSet controller creates another Pod."""


GONE = frozenset({PodState.ENDING, PodState.REJECTED})


class Reason(NamedTuple):
    """The reason why a Pod is not ready, and the code that the daemon logged; both are empty if unknown."""

    text: str = ""
    code: str = ""


UNKNOWN = Reason()


@dataclass(frozen=True, slots=True)
class DaemonPod:
    name: str
    node: str
    component: Component | None
    state: PodState
    reason: str = ""
    reason_code: str = ""
    image: str = ""
    owner: str = ""
    revision: str = ""
    created: str = ""

    @property
    def version(self) -> str:
        """The start of the image's digest; if the Pod names no digest, the image's tag."""
        reference, _, digest = self.image.partition("@")
        return digest[: len("sha256:") + 12] or reference.rpartition("/")[2].partition(":")[2] or "latest"

    @property
    def described(self) -> str:
        code = f" (code: {self.reason_code})" if self.reason_code else ""
        return f"{self.name} is {self.state}: {self.reason}".removesuffix(": ") + code

    def to_json(self) -> dict[str, str]:
        names = ("state", "reason", "reason_code", "version", "image")
        return {"pod": self.name} | {name: getattr(self, name) for name in names}


class Warned(NamedTuple):
    reason: str
    text: str
    time: str


def warnings_in(events: Iterable[KubernetesObject]) -> Mapping[str, Warned]:
    """Return each object's latest warning, keyed by the object's name. Harmless warnings are left out."""
    found: dict[str, Warned] = {}
    for event in events:
        reason, name = text(event, "reason"), text(event, "involvedObject", "name")
        if text(event, "type") == "Warning" and reason not in _HARMLESS_WARNINGS:
            warned = Warned(reason, one_line(joined(reason, text(event, "message"))), event_time(event))
            found[name] = max(found.get(name, warned), warned, key=lambda one: one.time)
    return found


def event_time(event: KubernetesObject) -> str:
    series, created = text(event, "series", "lastObservedTime"), text(event, "metadata", "creationTimestamp")
    return series or text(event, "lastTimestamp") or text(event, "eventTime") or created


def daemon_pod(pod: KubernetesObject, warning: str = "", logged: Reason = UNKNOWN) -> DaemonPod:
    state = _state(pod)
    reason = UNKNOWN if state is PodState.READY else next(_reasons(pod, state, warning, logged))
    return DaemonPod(
        name=name_of(pod),
        node=objects.node_of(pod),
        component=names.component(objects.labels_of(pod)),
        state=state,
        reason=one_line(reason.text),
        reason_code=reason.code,
        image=next((text(one, "image") for one in listing(pod, "spec", "containers")), ""),
        owner=text(objects.owner_of(pod), "name"),
        revision=objects.labels_of(pod).get(REVISION_LABEL, ""),
        created=text(pod, "metadata", "creationTimestamp"),
    )


def needs_log(pod: KubernetesObject) -> bool:
    """Return whether a Pod is not ready although a container runs or ran: only a log tells the reason."""
    statuses = listing(pod, "status", "containerStatuses")
    ran = any(mapping(one, "state", "running") or mapping(one, "lastState", "terminated") for one in statuses)
    return ran and _state(pod) in {PodState.NOT_READY, PodState.FAILING}


def own_reason(log: str) -> Reason:
    """Return the last reason that a daemon logged: why it is not ready, or the error with which it ended."""
    lines = [line.strip() for line in log.splitlines()]
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith("Error: "):
            return Reason(" ".join(lines[index : index + _ERROR_LINES]))
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(lines[index])
            if text(record, "about") == "readiness" and "message" in record:  # confcom.daemon.readiness_log
                return Reason(text(record, "reason"), text(record, "code"))
    return UNKNOWN


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
        for one in objects.container_statuses(pod)
    ):
        return PodState.FAILING
    runs = any(mapping(one, "state", "running") for one in listing(pod, "status", "containerStatuses"))
    return PodState.NOT_READY if runs else PodState.STARTING


def _reasons(pod: KubernetesObject, state: PodState, warning: str, logged: Reason) -> Iterator[Reason]:
    """Yield the reasons why a Pod is not ready, the most specific reason first."""
    if state is PodState.ENDING:
        yield Reason("it is terminating")
    if state in {PodState.REJECTED, PodState.WAITING}:
        about = mapping(pod, "status") if state is PodState.REJECTED else condition(pod, "PodScheduled")
        yield Reason(joined(text(about, "reason"), text(about, "message")))
    for one in objects.container_statuses(pod):
        if not mapping(one, "state", "running"):
            yield from _container_reasons(pod, one, logged)
    if logged.text:
        yield Reason(f"its log: {logged.text}", logged.code)
    if warning and not _NOT_YET.match(warning):
        yield Reason(warning)
    yield Reason(text(condition(pod, "Ready"), "message") if state is PodState.NOT_READY else _creation(pod))


def _creation(pod: KubernetesObject) -> str:
    """Return what the kubelet is doing for a starting Pod; only this shows that an image pull hangs."""
    for one in objects.container_statuses(pod):
        if (reason := text(one, "state", "waiting", "reason")) and (image := text(one, "image")):
            return f"{reason}: the kubelet pulls {image}, or creates the container"
    return "it is starting"


def _container_reasons(pod: KubernetesObject, status: KubernetesObject, logged: Reason) -> Iterator[Reason]:
    waiting, before = text(status, "state", "waiting", "reason"), mapping(status, "lastState", "terminated")
    ended = mapping(status, "state", "terminated") or before
    killed = "OOMKilled, " if text(ended, "reason") == "OOMKilled" else ""
    ending = f"{killed}exit code {number(ended, 'exitCode')}, {number(status, 'restartCount')} restarts"
    if ended and text(status, "name") == AESMD:
        # Do not quote aesmd's log in the reason: aesmd is not our program.
        logs = f"kubectl logs -n {objects.namespace_of(pod)} {name_of(pod)} -c {AESMD} --previous"
        yield Reason(f"its container {AESMD} ended ({ending}): see why with `{logs}`", "aesmd-does-not-start")
    elif killed or (waiting == "CrashLoopBackOff" and ended):
        own = own_reason(text(ended, "message"))  # the log's end: the chart sets FallbackToLogsOnError
        last = own if own.text else logged
        yield Reason(joined(joined(waiting, ending), last.text), last.code)
    if waiting not in _UNINFORMATIVE_REASONS:
        said = joined(waiting, text(status, "state", "waiting", "message"))
        _, failed, why = said.partition("ErrImagePull")  # a back-off message quotes the last pull's error
        yield Reason(failed + why or said, "image-not-pulled" if waiting in IMAGE_REASONS else "")


def joined(first: str, second: str) -> str:
    return f"{first}: {second}" if first and second else first or second


def one_line(words: str) -> str:
    return printable(shortened(" ".join(words.split())))
