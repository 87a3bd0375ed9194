"""The parts of Kubernetes' batch/v1 and core/v1 that the playground supports, and what must hold of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from confcom.kubelet_api.resource_names import extended_resource
from confcom.playground.kubelet.scheduler import total
from confcom.playground.manifests.decoding import FieldError, Int32, Int64, Struct
from confcom.playground.manifests.quantity import Quantity
from confcom.playground.manifests.value_rules import (
    LABEL_NAME,
    NAME_REQUIRED,
    NOT_NEGATIVE,
    NOT_UPWARDS,
    REQUIRED,
    SHORT_NAME,
    SUBDOMAIN_NAME,
    UNIQUE_MOUNT_PATHS,
    UNIQUE_NAMES,
    VARIABLE_NAME,
    WITHOUT_NUL,
    check_amounts,
)


class PullPolicy(StrEnum):
    """When an image is pulled. Nothing is pulled here, so all have the same effect."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class RestartPolicy(StrEnum):
    """When a container that ended is restarted."""

    ALWAYS = "Always"
    NEVER = "Never"
    ON_FAILURE = "OnFailure"


class HostPathType(StrEnum):
    """What a hostPath must be."""

    UNSET = ""
    BLOCK_DEVICE = "BlockDevice"
    CHAR_DEVICE = "CharDevice"
    DIRECTORY = "Directory"
    DIRECTORY_OR_CREATE = "DirectoryOrCreate"
    FILE = "File"
    FILE_OR_CREATE = "FileOrCreate"
    SOCKET = "Socket"


@dataclass(frozen=True, slots=True)
class ObjectMeta(Struct):
    """The metadata of an object or of a pod template."""

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    creation_timestamp: str = ""


@dataclass(frozen=True, slots=True)
class EnvVar(Struct):
    """A variable; its value may refer to earlier ones as $(NAME)."""

    name: Annotated[str, REQUIRED, VARIABLE_NAME] = ""
    value: Annotated[str, WITHOUT_NUL] = ""


@dataclass(frozen=True, slots=True)
class VolumeMount(Struct):
    """The path at which a container mounts a volume."""

    name: Annotated[str, REQUIRED] = ""
    mount_path: Annotated[str, REQUIRED] = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class HostPathVolumeSource(Struct):
    """A path of the node."""

    path: Annotated[str, REQUIRED, NOT_UPWARDS] = ""
    type: HostPathType = HostPathType.UNSET


@dataclass(frozen=True, slots=True)
class EmptyDirVolumeSource(Struct):
    """An empty directory."""


@dataclass(frozen=True, slots=True)
class Volume(Struct):
    """A hostPath, else an empty directory."""

    name: Annotated[str, REQUIRED, LABEL_NAME, SHORT_NAME] = ""
    host_path: HostPathVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None

    def errors(self, path: str) -> Iterator[FieldError]:
        """Yield the error of a volume with two types."""
        if self.host_path and self.empty_dir:
            yield FieldError(
                "Forbidden: may not specify more than 1 volume type", f"{path}hostPath", code="several-volume-types"
            )


@dataclass(frozen=True, slots=True)
class ResourceRequirements(Struct):
    """Limits and requests by resource name."""

    limits: Annotated[Mapping[str, Quantity], check_amounts] = field(default_factory=dict)
    requests: Annotated[Mapping[str, Quantity], check_amounts] = field(default_factory=dict)

    def errors(self, path: str) -> Iterator[FieldError]:
        """Yield the errors of requests that do not go with their limits."""
        for name, request in self.requests.items():
            limit, extended = self.limits.get(name), extended_resource(name)
            if limit is None and extended:
                yield FieldError(
                    "Required value: Limit must be set for non overcommitable resources",
                    f"{path}limits",
                    code="limit-missing",
                )
            elif limit is not None and extended and request.value != limit.value:
                yield FieldError(
                    f'Invalid value: "{request}": must be equal to {name} limit of {limit}',
                    f"{path}requests",
                    code="request-differs-from-limit",
                )
            elif limit is not None and request.value > limit.value:
                yield FieldError(
                    f'Invalid value: "{request}": must be less than or equal to {name} limit of {limit}',
                    f"{path}requests",
                    code="request-above-limit",
                )


@dataclass(frozen=True, slots=True)
class Container(Struct):
    """One container."""

    name: Annotated[str, REQUIRED, LABEL_NAME, SHORT_NAME] = ""
    image: Annotated[str, REQUIRED] = ""
    image_pull_policy: PullPolicy = PullPolicy.NEVER
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)
    volume_mounts: Annotated[tuple[VolumeMount, ...], UNIQUE_MOUNT_PATHS] = ()

    @property
    def devices(self) -> dict[str, int]:
        """The extended resources, of which request and limit are equal."""
        return {name: int(limit.value) for name, limit in self.resources.limits.items() if "/" in name}


@dataclass(frozen=True, slots=True)
class PodSpec(Struct):
    """The spec of a pod."""

    volumes: Annotated[tuple[Volume, ...], UNIQUE_NAMES] = ()
    containers: Annotated[tuple[Container, ...], REQUIRED, UNIQUE_NAMES] = ()
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    node_name: str = ""
    """If it is set, the pod bypasses the scheduler."""
    termination_grace_period_seconds: Annotated[Int64, NOT_NEGATIVE] = 30

    def errors(self, path: str) -> Iterator[FieldError]:
        """Yield the errors of mounts whose volume is missing."""
        names = {"", *(volume.name for volume in self.volumes)}
        for number, container in enumerate(self.containers):
            for index, mount in enumerate(container.volume_mounts):
                if mount.name not in names:
                    where = f"{path}containers[{number}].volumeMounts[{index}].name"
                    yield FieldError(f'Not found: "{mount.name}"', where, code="volume-not-found")

    @property
    def requests(self) -> dict[str, int]:
        """The requests that the scheduler uses: the sum over the pod's containers."""
        return total(container.devices for container in self.containers)


@dataclass(frozen=True, slots=True)
class PodTemplateSpec(Struct):
    """The template of a Job's pods."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)


@dataclass(frozen=True, slots=True)
class JobSpec(Struct):
    """The spec of a Job."""

    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    backoff_limit: Annotated[Int32, NOT_NEGATIVE] = 6
    completions: Int32 = 1
    parallelism: Int32 = 1

    def errors(self, path: str) -> Iterator[FieldError]:
        """Yield the error of a Job whose pod never ends."""
        if self.template.spec.restart_policy is RestartPolicy.ALWAYS:
            yield FieldError(
                'Required value: valid values: "OnFailure", "Never"',
                f"{path}template.spec.restartPolicy",
                code="job-restarts-always",
            )


@dataclass(frozen=True, slots=True)
class _Object(Struct):
    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = field(default_factory=ObjectMeta)

    def errors(self, path: str) -> Iterator[FieldError]:
        """Yield what is wrong with its name, which a pod template needs not."""
        for one in (NAME_REQUIRED, SUBDOMAIN_NAME, SHORT_NAME):
            yield from one(self.name, f"{path}metadata.name")

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name


@dataclass(frozen=True, slots=True)
class Pod(_Object):
    """A Pod that is not created by a Job."""

    spec: PodSpec = field(default_factory=PodSpec)


@dataclass(frozen=True, slots=True)
class Job(_Object):
    """A Job with one completion."""

    spec: JobSpec = field(default_factory=JobSpec)
