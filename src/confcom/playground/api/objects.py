"""The mutable state of the node's objects: pods, their containers, Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from confcom.playground.api.views import ContainerView, DeviceView, JobStatus, JobView, MountView, Phase, PodView
from confcom.playground.kubelet.rules import ContainerState, backoff_limit_exceeded
from confcom.playground.manifests import v1
from confcom.playground.runtime.container import ContainerProcess


@dataclass(slots=True)
class Container:
    """A container's spec and status."""

    spec: v1.Container
    state: ContainerState = ContainerState.WAITING
    reason: str = "ContainerCreating"
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[DeviceView, ...] = ()
    mounts: tuple[MountView, ...] = ()

    def view(self) -> ContainerView:
        """Return the container's view."""
        status = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "spec"}
        return ContainerView(name=self.spec.name, image=self.spec.image, **status)


@dataclass(slots=True)
class Pod:
    """A pod's spec and status."""

    name: str
    spec: v1.PodSpec
    owner: Job | None = None
    phase: Phase = Phase.PENDING
    reason: str = ""
    message: str = ""
    bound: bool = False
    """Whether the pod is bound to the node."""
    deleting: bool = False
    stop_grace: float = 0.0
    task: asyncio.Task[None] | None = None
    containers: tuple[Container, ...] = ()
    processes: set[ContainerProcess] = field(default_factory=set)
    """The processes of its running containers."""

    def __post_init__(self) -> None:
        self.containers = tuple(Container(spec) for spec in self.spec.containers)

    @property
    def restarts(self) -> int:
        """The number of restarts of all its containers."""
        return sum(container.restarts for container in self.containers)

    def view(self, allocated: Mapping[str, int]) -> PodView:
        """Return the pod's view."""
        reason, message = self.reason, self.message
        if not reason:
            failed = next((c for c in self.containers if c.exit_code), self.containers[0])
            reason, message = failed.reason, failed.message
        return PodView(
            name=self.name,
            owner_kind="Job" if self.owner else "",
            owner_name=self.owner.name if self.owner else "",
            phase=self.phase,
            reason=reason,
            message=message,
            deleting=self.deleting,
            requested=self.spec.requests,
            allocated=dict(allocated),
            containers=tuple(container.view() for container in self.containers),
        )


@dataclass(slots=True)
class Job:
    """A Job's manifest and status."""

    manifest: v1.Job
    status: JobStatus = JobStatus.RUNNING
    reason: str = ""
    message: str = ""
    succeeded: int = 0
    failed: int = 0
    retry: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The Job's name."""
        return self.manifest.name

    def complete(self) -> None:
        """Set the status Complete: the Job's pod succeeded."""
        self.succeeded += 1
        self.status, self.reason = JobStatus.COMPLETE, "CompletionsReached"
        self.message = "Reached expected number of succeeded pods"

    def fail_if_limit_exceeded(self, restart_count: int) -> bool:
        """Set the status Failed if the backoff limit is exceeded, and return whether it is."""
        spec = self.manifest.spec
        policy = spec.template.spec.restart_policy
        if not backoff_limit_exceeded(
            policy, failed_pods=self.failed, restart_count=restart_count, limit=spec.backoff_limit
        ):
            return False
        self.status, self.reason = JobStatus.FAILED, "BackoffLimitExceeded"
        self.message = "Job has reached the specified backoff limit"
        return True

    def cancel_retry(self) -> None:
        """Cancel the creation of the next pod."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None

    def view(self, pods: tuple[Pod, ...]) -> JobView:
        """Return the Job's view."""
        return JobView(
            name=self.name,
            status=self.status,
            reason=self.reason,
            message=self.message,
            active=sum(not pod.phase.terminal for pod in pods),
            succeeded=self.succeeded,
            failed=self.failed,
            pods=tuple(pod.name for pod in pods),
        )
