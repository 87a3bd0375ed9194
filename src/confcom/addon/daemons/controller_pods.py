"""The controller of node capacity: whether it runs, and whether a change of it has come through. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from confcom.addon.daemons.daemon_pods import PodState, pod_reason
from confcom.addon.model.chart_objects import ADD_ON, COMPONENT_LABEL, CONTROLLER, NAME_LABEL, flag_in, has_controller
from confcom.addon.model.problems import Problem
from confcom.kubernetes.objects import KubernetesObject, labels_of, mapping, name_of, namespace_of, number, text

_MAXIMUM_FLAG = "--max-epc-mib"
_GONE = frozenset({PodState.ENDING, PodState.REJECTED})


@dataclass(frozen=True, slots=True)
class UnfinishedChange:
    """A change of the controller that has not come through."""

    why: str
    failing: bool
    """Its newest Pod fails, and is unlikely to recover by itself."""


def is_controller(thing: KubernetesObject, namespace: str) -> bool:
    """Return whether an object is the add-on's controller, its Deployment or a Pod of it."""
    labels = labels_of(thing)
    return (
        labels.get(NAME_LABEL) == ADD_ON
        and labels.get(COMPONENT_LABEL) == CONTROLLER
        and namespace_of(thing) == namespace
    )


def controller_problems(
    daemons: Iterable[KubernetesObject],
    pods: Sequence[KubernetesObject],
    events: Sequence[KubernetesObject],
    namespace: str,
) -> Iterator[Problem]:
    """Yield what is wrong with the controller.

    Args:
        daemons: our DaemonSets, whose flags say whether there has to be a controller.
        pods: all Pods, or those of the add-on's namespace.
        events: those of the add-on's namespace.
        namespace: the add-on's namespace.
    """
    found = _states(pods, events, namespace)
    waits = "nodes that are new or were zeroed get no EPC as capacity until it runs; all others keep theirs"
    if not found:
        if has_controller(daemons):
            yield Problem(f"there is no Pod of the controller: {waits}", code="controller-missing")
        return
    name, state, why = found[-1]
    serves = any(state is PodState.READY for _, state, _ in found)
    if not serves or state is PodState.FAILING:
        then = "another one serves meanwhile" if serves else waits
        yield Problem(f"the controller is not ready ({name} {state}: {why}): {then}", code="controller-not-ready")


def maximum_mib(pods: Iterable[KubernetesObject], namespace: str) -> int | None:
    """Return the most EPC that the newest controller gives to a node; None if no Pod of it tells.

    Args:
        pods: all Pods, or those of the add-on's namespace.
        namespace: the add-on's namespace.
    """
    ours = sorted(
        (pod for pod in pods if is_controller(pod, namespace)),
        key=lambda pod: text(pod, "metadata", "creationTimestamp"),
    )
    told = [flag for pod in ours if (flag := flag_in(mapping(pod, "spec"), _MAXIMUM_FLAG)).isdigit()]
    return int(told[-1]) if told else None


def unfinished(
    deployments: Iterable[KubernetesObject],
    pods: Sequence[KubernetesObject],
    events: Sequence[KubernetesObject],
    namespace: str,
) -> UnfinishedChange | None:
    """Return why the controller's Deployment has not reached its newest template; None if it has, or is not there."""
    for one in deployments:
        if is_controller(one, namespace) and not _rolled_out(one):
            found = _states(pods, events, namespace)
            open_ones = [seen for seen in found if seen[1] is not PodState.READY]
            why = ": ".join(map(str, open_ones[-1])) if open_ones else "waiting for the Deployment controller"
            return UnfinishedChange(why, failing=any(state is PodState.FAILING for _, state, _ in found[-1:]))
    return None


def _rolled_out(deployment: KubernetesObject) -> bool:
    wanted = number(deployment, "spec", "replicas")
    return (
        number(deployment, "status", "observedGeneration") >= number(deployment, "metadata", "generation")
        and number(deployment, "status", "updatedReplicas") >= wanted
        and number(deployment, "status", "replicas") == wanted
        and number(deployment, "status", "availableReplicas") >= wanted
    )


def _states(
    pods: Iterable[KubernetesObject], events: Sequence[KubernetesObject], namespace: str
) -> list[tuple[str, PodState, str]]:
    """Return the controller's Pods that are to stay, oldest first: name, state, and why it is not ready."""
    ours = [pod for pod in pods if is_controller(pod, namespace)]
    ours.sort(key=lambda pod: text(pod, "metadata", "creationTimestamp"))
    found = []
    for pod in ours:
        about = [event for event in events if text(event, "involvedObject", "name") == name_of(pod)]
        state, why = pod_reason(pod, about)
        if state not in _GONE:
            found.append((name_of(pod), state, why))
    return found
