"""Kubernetes' rules for container restarts, pod phases and the failure of Jobs; none of them reads a clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from confcom.playground.api.views import Phase
from confcom.playground.manifests.v1 import RestartPolicy


class ContainerState(StrEnum):
    """A container's state, as Kubernetes names it."""

    WAITING = "Waiting"
    RUNNING = "Running"
    TERMINATED = "Terminated"


@dataclass(frozen=True, slots=True)
class BackOff:
    """Delays that double with every failure."""

    first: float
    most: float

    def after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures (1 or more)."""
        return float(min(self.first * 2.0 ** min(failures - 1, 32), self.most))


CONTAINER_BACK_OFF = BackOff(1.0, 30.0)
"""The delay before a container is restarted. A cluster waits 10 s to 5 min; here a user is watching."""

JOB_BACK_OFF = BackOff(1.0, 30.0)
"""The delay before a Job's next pod. A cluster waits 10 s to 10 min (pkg/controller/job)."""


def restarts(policy: RestartPolicy, exit_code: int) -> bool:
    """Return whether a container that ended with this exit code is restarted."""
    return policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and exit_code != 0)


def pod_phase(containers: Iterable[tuple[ContainerState, int | None]], policy: RestartPolicy) -> Phase:
    """Return a pod's phase from its containers' states and last exit codes (getPhase of the kubelet)."""
    states = list(containers)
    if all(state is ContainerState.TERMINATED and not restarts(policy, code or 0) for state, code in states):
        return Phase.SUCCEEDED if all(code == 0 for _, code in states) else Phase.FAILED
    if any(state is ContainerState.WAITING and code is None for state, code in states):
        return Phase.PENDING
    return Phase.RUNNING


def backoff_limit_exceeded(policy: RestartPolicy, *, failed_pods: int, restart_count: int, limit: int) -> bool:
    """Return whether a Job has exceeded its backoff limit.

    With OnFailure, restarts of the pod's containers count too, and a limit of 0 allows none
    (pastBackoffLimitOnFailure).
    """
    if failed_pods > limit:
        return True
    if policy is not RestartPolicy.ON_FAILURE or restart_count == 0:
        return False
    return restart_count >= limit
