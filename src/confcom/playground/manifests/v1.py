"""The parts of Kubernetes' batch/v1 and core/v1 that the playground supports, and the API server's rules for values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from confcom.kubelet_api.resource_names import LABEL, MAX_LABEL, SUBDOMAIN, extended_resource
from confcom.playground.kubelet.scheduler import total
from confcom.playground.manifests.decoding import FieldError, Int32, Int64, Rule, Struct, camel_case, rule
from confcom.playground.manifests.quantity import Quantity

_NATIVE_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _unique(text: str, key: str, *, code: str) -> Rule:
    def check(items: Sequence[object], path: str) -> Iterator[FieldError]:
        seen = set()
        for index, item in enumerate(items):
            if (value := getattr(item, key)) in seen:
                yield FieldError(text.format(value), f"{path}[{index}].{camel_case(key)}", code)
            seen.add(value)

    return check


_UNIQUE_NAMES = _unique('Duplicate value: "{}"', "name", code="duplicate-name")
_UNIQUE_MOUNT_PATHS = _unique('Invalid value: "{}": must be unique', "mount_path", code="duplicate-mount-path")
_REQUIRED = rule("Required value", lambda value: not value, code="field-required")
_NAME_REQUIRED = rule(
    "Required value: name or generateName is required", lambda name: not name, code="object-name-required"
)
# In a cluster an object's name may be longer; here it is also the name of a directory and of files.
_SHORT = rule(
    f'Invalid value: "{{}}": must be no more than {MAX_LABEL} characters',
    lambda name: len(name) > MAX_LABEL,
    code="name-too-long",
)
_LABEL = rule(
    "Invalid value: \"{}\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    f"'{LABEL}')",
    lambda name: name and not re.fullmatch(LABEL, name),
    code="not-a-label",
)
_SUBDOMAIN = rule(
    "Invalid value: \"{}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{SUBDOMAIN}')",
    lambda name: name and not re.fullmatch(SUBDOMAIN, name),
    code="not-a-subdomain",
)
_VARIABLE_NAME = rule(
    'Invalid value: "{}": a valid environment variable name must consist only of printable ASCII characters other '
    "than '='",
    lambda name: "=" in name or not name.isprintable(),
    code="variable-name-invalid",
)
_WITHOUT_NUL = rule("Invalid value: must not contain NUL", lambda text: "\0" in text, code="nul-in-value")
_NOT_UPWARDS = rule(
    "Invalid value: \"{}\": must not contain '..'", lambda path: ".." in path.split("/"), code="path-goes-up"
)
_NOT_NEGATIVE = rule(
    "Invalid value: {}: must be greater than or equal to 0", lambda number: number < 0, code="negative-number"
)


def _amounts(amounts: Mapping[str, Quantity], path: str) -> Iterator[FieldError]:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        if not (name in _NATIVE_RESOURCES or name.startswith("hugepages-") or extended_resource(name)):
            yield FieldError(
                f'Invalid value: "{name}": must be a standard resource type or fully qualified',
                where,
                code="resource-name-invalid",
            )
        if amount.value < 0:
            yield FieldError(
                f'Invalid value: "{amount}": must be greater than or equal to 0', where, code="negative-quantity"
            )
        elif extended_resource(name) and amount.value.denominator != 1:
            yield FieldError(f'Invalid value: "{amount}": must be an integer', where, code="quantity-not-an-integer")


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

    name: Annotated[str, _REQUIRED, _VARIABLE_NAME] = ""
    value: Annotated[str, _WITHOUT_NUL] = ""


@dataclass(frozen=True, slots=True)
class VolumeMount(Struct):
    """The path at which a container mounts a volume."""

    name: Annotated[str, _REQUIRED] = ""
    mount_path: Annotated[str, _REQUIRED] = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class HostPathVolumeSource(Struct):
    """A path of the node."""

    path: Annotated[str, _REQUIRED, _NOT_UPWARDS] = ""
    type: HostPathType = HostPathType.UNSET


@dataclass(frozen=True, slots=True)
class EmptyDirVolumeSource(Struct):
    """An empty directory."""


@dataclass(frozen=True, slots=True)
class Volume(Struct):
    """A hostPath, else an empty directory."""

    name: Annotated[str, _REQUIRED, _LABEL, _SHORT] = ""
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

    limits: Annotated[Mapping[str, Quantity], _amounts] = field(default_factory=dict)
    requests: Annotated[Mapping[str, Quantity], _amounts] = field(default_factory=dict)

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

    name: Annotated[str, _REQUIRED, _LABEL, _SHORT] = ""
    image: Annotated[str, _REQUIRED] = ""
    image_pull_policy: PullPolicy = PullPolicy.NEVER
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)
    volume_mounts: Annotated[tuple[VolumeMount, ...], _UNIQUE_MOUNT_PATHS] = ()

    @property
    def devices(self) -> dict[str, int]:
        """The extended resources, of which request and limit are equal."""
        return {name: int(limit.value) for name, limit in self.resources.limits.items() if "/" in name}


@dataclass(frozen=True, slots=True)
class PodSpec(Struct):
    """The spec of a pod."""

    volumes: Annotated[tuple[Volume, ...], _UNIQUE_NAMES] = ()
    containers: Annotated[tuple[Container, ...], _REQUIRED, _UNIQUE_NAMES] = ()
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    node_name: str = ""
    """If it is set, the pod bypasses the scheduler."""
    termination_grace_period_seconds: Annotated[Int64, _NOT_NEGATIVE] = 30

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
    backoff_limit: Annotated[Int32, _NOT_NEGATIVE] = 6
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
        for one in (_NAME_REQUIRED, _SUBDOMAIN, _SHORT):
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
