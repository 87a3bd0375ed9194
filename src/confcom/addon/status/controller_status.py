"""The controller that writes EPC into the nodes' capacity: whether it is expected, and whether it works. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.addon.daemons.daemon_pods import DaemonPod, PodState
from confcom.addon.model.chart_objects import Component, component_of, flag_of
from confcom.addon.model.problems import Problem
from confcom.kubernetes.objects import KubernetesObject

SUPPORTED = "supported"
"""The device plugins' `--capacity-support` if the release contains the controller and the policies that it needs."""
_RUNS = frozenset({PodState.READY, PodState.NOT_READY, PodState.STARTING, PodState.FAILING, PodState.WAITING})


def controller_expected(daemons: Sequence[KubernetesObject]) -> bool:
    """Return whether the release contains the controller, by what it tells the device plugins."""
    plugins = (one for one in daemons if component_of(one) is Component.DEVICE_PLUGIN)
    return any(flag_of(one, "--capacity-support") == SUPPORTED for one in plugins)


def controllers_of(pods: Sequence[DaemonPod]) -> tuple[DaemonPod, ...]:
    """Return the controller's pods."""
    return tuple(pod for pod in pods if pod.component is Component.CONTROLLER)


def works(controllers: Sequence[DaemonPod]) -> bool:
    """Return whether a pod of the controller is ready."""
    return any(pod.state is PodState.READY for pod in controllers)


def controller_problems(daemons: Sequence[KubernetesObject], controllers: Sequence[DaemonPod]) -> Iterator[Problem]:
    """Yield the problem of a controller that does not work; nodes keep the capacity that they have meanwhile."""
    if not controller_expected(daemons) or works(controllers):
        return
    alive = [pod for pod in controllers if pod.state in _RUNS]
    code = alive[-1].reason_code if alive else ""
    why = f"{alive[-1].name} is {alive[-1].state}: {alive[-1].reason}".removesuffix(": ") if alive else "it has no Pod"
    yield Problem(
        f"the controller does not work ({why}): nodes keep the EPC that they have, and new or changed nodes wait",
        code="controller-not-ready",
        reason_code=code,
    )
