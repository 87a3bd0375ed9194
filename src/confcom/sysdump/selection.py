"""The add-on's Pods that are read, their order, and the files that are read of each Pod. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from confcom.addon.daemon_pods import PodState, daemon_pod
from confcom.kubernetes.names import Component, component
from confcom.kubernetes.objects import KubernetesObject, container_statuses, labels_of, mapping, name_of, number, text

MAX_PODS = 20
"""Maximum number of Pods of a component: failing Pods often share one reason, and healthy ones look alike."""
_PAGES = {"readyz": "txt", "metrics": "txt"}
_OWN_PAGES = {Component.DEVICE_PLUGIN: {"inventory": "json"}, Component.QUOTE_HELPER: {"platform": "json"}}


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the dump that is read from a Pod: a page of its probe server, or a log of a container."""

    pod: str
    file: str
    page: str = ""
    container: str = ""
    previous: bool = False
    """Whether the log is that of the container's instance before its last restart."""

    @property
    def name(self) -> str:
        return f"pods/{self.pod}/{self.file}"


def chosen_pods(pods: Iterable[KubernetesObject]) -> tuple[Sequence[KubernetesObject], int]:
    """Return the Pods to read and the number of the others. Pods with problems come first, then one of each component.

    Only a few Pods of each component are kept in memory while the list is read.
    """
    kept, left = defaultdict[Component, list[KubernetesObject]](list), 0
    for pod in pods:
        if kind := component(labels_of(pod)):
            some = kept[kind]
            some.append(pod)
            if len(some) > 2 * MAX_PODS:
                some.sort(key=_urgency)
                left += len(some) - MAX_PODS
                del some[MAX_PODS:]
    ordered = [sorted(some, key=_urgency) for some in kept.values()]
    left += sum(len(some[MAX_PODS:]) for some in ordered)
    ranked = [(_urgency(pod)[:2], rank, pod) for some in ordered for rank, pod in enumerate(some[:MAX_PODS])]
    return [pod for *_, pod in sorted(ranked, key=lambda one: one[:2])], left


def sources(pod: KubernetesObject) -> Iterator[Source]:
    """Yield what to read of a Pod: the pages that its component serves, and the logs that the kubelet has."""
    name, kind = name_of(pod), component(labels_of(pod))
    statuses = container_statuses(pod)
    if kind and any(mapping(one, "state", "running") for one in statuses):
        for page, ending in (_PAGES | _OWN_PAGES.get(kind, {})).items():
            yield Source(name, f"{page}.{ending}", page=page)
    for one in statuses:
        container, before = text(one, "name"), mapping(one, "lastState", "terminated")
        if before or mapping(one, "state", "running") or mapping(one, "state", "terminated"):
            yield Source(name, f"{container}.log", container=container)
        if before:
            yield Source(name, f"{container}.previous.log", container=container, previous=True)


def _urgency(pod: KubernetesObject) -> tuple[bool, bool, str]:
    restarted = any(number(one, "restartCount") for one in container_statuses(pod))
    return daemon_pod(pod).state is PodState.READY, not restarted, name_of(pod)
