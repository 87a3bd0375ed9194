"""The node's state as plain data: the same in JSON, in the client and in the CLI's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """A pod's phase, as Kubernetes names it."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def terminal(self) -> bool:
        """Whether the pod has ended, and its devices are released."""
        return self in {Phase.SUCCEEDED, Phase.FAILED}


class JobStatus(StrEnum):
    """A Job's status, as `kubectl get jobs` shows it in its STATUS column."""

    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device node inside a container."""

    container_path: str
    host_path: str
    permissions: str


@dataclass(frozen=True, slots=True)
class MountView:
    """A directory or file of the node inside a container."""

    container_path: str
    host_path: str
    """Path on the simulated node; empty for an emptyDir."""
    read_only: bool
    source: str
    """`Allocate` if a device plugin asked for it, else `volume NAME`."""


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container of a pod."""

    name: str
    image: str
    state: str
    """`Waiting`, `Running` or `Terminated`."""
    reason: str
    message: str
    exit_code: int | None
    """The exit code of the last run; 128 + the signal's number if a signal ended it, as in shells, never negative."""
    restarts: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The variables that the manifest, the image and the device plugin set, without those that the machine adds."""
    devices: tuple[DeviceView, ...]
    mounts: tuple[MountView, ...]


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod, with properties that combine its containers' values, since most pods have one container."""

    name: str
    owner_kind: str
    """`Job`, or empty for a pod that no Job created."""
    owner_name: str
    phase: Phase
    reason: str
    """The reason of the phase: `Unschedulable`, `ErrImageNeverPull`, `UnexpectedAdmissionError`, `Completed`, ..."""
    message: str
    deleting: bool
    requested: Mapping[str, int]
    allocated: Mapping[str, int]
    """Devices held now, by resource name; empty once the pod has ended."""
    containers: tuple[ContainerView, ...]

    @property
    def exit_code(self) -> int | None:
        """The first non-zero exit code of its containers, 0 if all ended well, None if none has ended."""
        codes = [code for container in self.containers if (code := container.exit_code) is not None]
        return next((code for code in codes if code), 0) if codes else None


@dataclass(frozen=True, slots=True)
class JobView:
    """One Job."""

    name: str
    status: JobStatus
    reason: str
    message: str
    active: int
    succeeded: int
    failed: int
    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """Devices that one container holds."""

    pod: str
    container: str
    resource: str
    count: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the ledger."""

    reason: str
    """`Allocated` or `Released`."""
    pod: str
    container: str
    resource: str
    count: int
    message: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node: its mode and its resources."""

    name: str
    mode: str
    """`root`, `user-namespace` or `no-namespace`."""
    mode_reason: str
    pid: int
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    allocated: Mapping[str, int]
    ledger: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class NodeState:
    """The whole state at one moment. `revision` grows with every change."""

    revision: int
    node: NodeView
    pods: tuple[PodView, ...]
    jobs: tuple[JobView, ...]
    events: tuple[Event, ...]
    """The ledger's events, oldest first; only the latest are kept."""

    def pod(self, name: str) -> PodView | None:
        """Return the pod of that name."""
        return next((pod for pod in self.pods if pod.name == name), None)

    def job(self, name: str) -> JobView | None:
        """Return the Job of that name."""
        return next((job for job in self.jobs if job.name == name), None)

    def pods_of(self, job: str) -> tuple[PodView, ...]:
        """Return a Job's pods, oldest first."""
        return tuple(pod for pod in self.pods if pod.owner_kind == "Job" and pod.owner_name == job)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NodeState:
        """Read the values of `to_json`, without validation, since they come from the node."""
        return cls(
            revision=data["revision"],
            node=NodeView(**{**data["node"], "ledger": tuple(LedgerLine(**line) for line in data["node"]["ledger"])}),
            pods=tuple(_pod(pod) for pod in data["pods"]),
            jobs=tuple(
                JobView(**{**job, "status": JobStatus(job["status"]), "pods": tuple(job["pods"])})
                for job in data["jobs"]
            ),
            events=tuple(Event(**event) for event in data["events"]),
        )


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The result of applying a manifest."""

    objects: tuple[str, ...]
    """Created objects as kubectl names them: `job.batch/sgx-test`, `pod/NAME`."""
    warnings: tuple[str, ...] = field(default=())
    """Warnings for fields that have no effect here, each with the field's path."""


def _pod(data: Mapping[str, Any]) -> PodView:
    containers = tuple(
        ContainerView(
            **{
                **container,
                "argv": tuple(container["argv"]),
                "devices": tuple(DeviceView(**device) for device in container["devices"]),
                "mounts": tuple(MountView(**mount) for mount in container["mounts"]),
            }
        )
        for container in data["containers"]
    )
    return PodView(**{**data, "phase": Phase(data["phase"]), "containers": containers})
