"""When a container starts again, what phase its pod is in, when a Job gives up: Kubernetes' rules, without a clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from confcom.playground.manifest import RestartPolicy
from confcom.playground.views import Phase


class ContainerState(StrEnum):
    """A container's state, as Kubernetes names it."""

    WAITING = "Waiting"
    RUNNING = "Running"
    TERMINATED = "Terminated"


@dataclass(frozen=True, slots=True)
class BackOff:
    """Delays that double with every failure.

    Args:
        first: seconds before the first retry.
        most: seconds at most.
    """

    first: float
    most: float

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures; at least one."""
        return float(min(self.first * 2.0 ** min(failures - 1, 32), self.most))


CONTAINER_BACK_OFF = BackOff(1.0, 30.0)
"""Before a container starts again. A cluster waits 10 s to 5 min; here somebody is watching."""

JOB_BACK_OFF = BackOff(1.0, 30.0)
"""Before a Job's next pod. A cluster waits 10 s to 10 min (pkg/controller/job)."""


def restarts(policy: RestartPolicy, exit_code: int) -> bool:
    """Whether a container that ended with this code is started again."""
    return policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and exit_code != 0)


def pod_phase(containers: Iterable[tuple[ContainerState, int | None]], policy: RestartPolicy) -> Phase:
    """A pod's phase from its containers' states and last exit codes (getPhase of the kubelet)."""
    states = list(containers)
    if all(state is ContainerState.TERMINATED and not restarts(policy, code or 0) for state, code in states):
        return Phase.SUCCEEDED if all(code == 0 for _, code in states) else Phase.FAILED
    if any(state is ContainerState.WAITING and code is None for state, code in states):
        return Phase.PENDING
    return Phase.RUNNING


def backoff_limit_exceeded(policy: RestartPolicy, *, failed_pods: int, restart_count: int, limit: int) -> bool:
    """Whether a Job has failed too often.

    With OnFailure restarts inside the pod count, and a limit of 0 allows none (pastBackoffLimitOnFailure).
    """
    if failed_pods > limit:
        return True
    if policy is not RestartPolicy.ON_FAILURE or restart_count == 0:
        return False
    return restart_count >= limit
