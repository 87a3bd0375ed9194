"""Job and Pod manifests, validated as the API server validates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from confcom.playground.api.errors import ManifestError
from confcom.playground.kubelet.scheduler import total
from confcom.playground.manifests.decoding import (
    BOOL,
    INT32,
    INT64,
    STRING,
    Decoder,
    ListOf,
    MapOf,
    Quantity,
    Scalar,
    Struct,
    Type,
)
from confcom.playground.manifests.documents import load_documents
from confcom.playground.manifests.quantity import has_suffix, parse_quantity
from confcom.playground.manifests.validation import validate

DEFAULT_BACKOFF_LIMIT = 6
"""Retries of a Job whose manifest sets no backoffLimit (batch/v1 defaults)."""
DEFAULT_GRACE_PERIOD = 30
"""Seconds between SIGTERM and SIGKILL if the manifest sets no grace period (core/v1 defaults)."""


class RestartPolicy(StrEnum):
    """When a container that ended is restarted."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


@dataclass(frozen=True, slots=True)
class EnvVar:
    """A variable; its value may refer to earlier ones as $(NAME)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """The path at which a container mounts a volume."""

    name: str
    mount_path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A hostPath, or an empty directory if `host_path` is None."""

    name: str
    host_path: str | None
    host_path_type: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container."""

    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    working_dir: str
    env: tuple[EnvVar, ...]
    resources: Mapping[str, int]
    """Extended resources only: their request and limit are equal."""
    volume_mounts: tuple[VolumeMount, ...]


@dataclass(frozen=True, slots=True)
class PodSpec:
    """The spec of a pod."""

    containers: tuple[ContainerSpec, ...]
    volumes: tuple[Volume, ...]
    restart_policy: RestartPolicy
    grace_period: int
    node_name: str = ""
    """The manifest's nodeName; if it is set, the pod bypasses the scheduler."""

    @property
    def requests(self) -> dict[str, int]:
        """The requests that the scheduler uses: the sum over the pod's containers."""
        return total(container.resources for container in self.containers)


@dataclass(frozen=True, slots=True)
class PodManifest:
    """A Pod that is not created by a Job."""

    name: str
    spec: PodSpec


@dataclass(frozen=True, slots=True)
class JobManifest:
    """A Job with one completion."""

    name: str
    spec: PodSpec
    backoff_limit: int


Manifest: TypeAlias = PodManifest | JobManifest

_OBJECT_META = Struct(
    "ObjectMeta", {"name": STRING, "labels": MapOf(STRING), "annotations": MapOf(STRING), "creationTimestamp": STRING}
)
_ENV = Struct("EnvVar", {"name": STRING, "value": STRING})
_RESOURCE_LIST = MapOf(Quantity(), "v1.ResourceList")
_RESOURCES = Struct("ResourceRequirements", {"limits": _RESOURCE_LIST, "requests": _RESOURCE_LIST})
_CONTAINER = Struct(
    "Container",
    {
        "name": STRING,
        "image": STRING,
        "imagePullPolicy": Scalar("v1.PullPolicy", str),
        "command": ListOf(STRING),
        "args": ListOf(STRING),
        "workingDir": STRING,
        "env": ListOf(_ENV),
        "resources": _RESOURCES,
        "volumeMounts": ListOf(
            Struct("VolumeMount", {"name": STRING, "mountPath": STRING, "readOnly": BOOL}),
        ),
    },
)
_VOLUME = Struct(
    "Volume",
    {
        "name": STRING,
        "hostPath": Struct("HostPathVolumeSource", {"path": STRING, "type": Scalar("v1.HostPathType", str)}),
        "emptyDir": Struct("EmptyDirVolumeSource", {}),
    },
)
_POD_SPEC = Struct(
    "PodSpec",
    {
        "containers": ListOf(_CONTAINER),
        "volumes": ListOf(_VOLUME),
        "restartPolicy": Scalar("v1.RestartPolicy", str),
        "nodeName": STRING,
        "terminationGracePeriodSeconds": INT64,
    },
)
_TYPE_META: Mapping[str, Type] = {"apiVersion": STRING, "kind": STRING, "metadata": _OBJECT_META}
_SCHEMAS = {
    ("v1", "Pod"): Struct("Pod", {**_TYPE_META, "spec": _POD_SPEC}),
    ("batch/v1", "Job"): Struct(
        "Job",
        {
            **_TYPE_META,
            "spec": Struct(
                "JobSpec",
                {
                    "template": Struct("PodTemplateSpec", {"metadata": _OBJECT_META, "spec": _POD_SPEC}),
                    "backoffLimit": INT32,
                    "completions": INT32,
                    "parallelism": INT32,
                },
            ),
        },
    ),
}


def parse_manifests(text: str) -> tuple[tuple[Manifest, ...], tuple[str, ...]]:
    """Parse a manifest file.

    Args:
        text: YAML or JSON; one or more documents.

    Returns:
        The objects in their order, and a warning for every field that has no effect here.

    Raises:
        ManifestError: the API server would refuse it (with the API server's text), or the playground does not support
            that kind.
    """
    documents = load_documents(text)
    if not documents:
        raise ManifestError("no objects passed to apply", why="the manifest is empty")
    manifests: list[Manifest] = []
    warnings: list[str] = []
    for document in documents:
        api_version, kind = document.get("apiVersion"), document.get("kind")
        schema = _SCHEMAS.get((api_version, kind)) if isinstance(api_version, str) and isinstance(kind, str) else None
        if schema is None:
            raise ManifestError(
                f'no matches for kind "{str(kind)[:64]}" in version "{str(api_version)[:64]}"',
                why="the playground runs Job (batch/v1) and Pod (v1) manifests",
                remedy="use a cluster for the other kinds",
            )
        decoder = Decoder(schema.name, "v1")
        decoded = decoder.decode(document, schema)
        validate(decoded, schema.name)
        manifest, more = _build(decoded)
        manifests.append(manifest)
        warnings += [f"{schema.name} {manifest.name}: {warning}" for warning in (*decoder.warnings, *more)]
    return tuple(manifests), tuple(warnings)


def _build(decoded: Mapping[str, Any]) -> tuple[Manifest, list[str]]:
    name = decoded["metadata"]["name"]
    if decoded["kind"] == "Pod":
        spec, warnings = _pod_spec(decoded["spec"], "spec")
        return PodManifest(name, spec), warnings
    job = decoded["spec"]
    spec, warnings = _pod_spec(job["template"]["spec"], "spec.template.spec")
    warnings += [
        f"spec.{count} is {job[count]}: a Job runs one pod here"
        for count in ("completions", "parallelism")
        if job.get(count, 1) != 1
    ]
    return JobManifest(name, spec, job.get("backoffLimit", DEFAULT_BACKOFF_LIMIT)), warnings


def _pod_spec(decoded: Mapping[str, Any], path: str) -> tuple[PodSpec, list[str]]:
    warnings: list[str] = []
    volumes = []
    for index, volume in enumerate(decoded.get("volumes", [])):
        host_path = volume.get("hostPath")
        if host_path is None and "emptyDir" not in volume:
            warnings.append(f"{path}.volumes[{index}] becomes an empty directory: its type is not supported here")
        volumes.append(
            Volume(volume["name"], host_path["path"], host_path.get("type", ""))
            if host_path is not None
            else Volume(volume["name"], None)
        )
    containers = []
    for index, container in enumerate(decoded["containers"]):
        built, more = _container(container, f"{path}.containers[{index}]")
        containers.append(built)
        warnings += more
    return (
        PodSpec(
            containers=tuple(containers),
            volumes=tuple(volumes),
            restart_policy=RestartPolicy(decoded.get("restartPolicy", RestartPolicy.ALWAYS)),
            grace_period=decoded.get("terminationGracePeriodSeconds", DEFAULT_GRACE_PERIOD),
            node_name=decoded.get("nodeName", ""),
        ),
        warnings,
    )


def _container(decoded: Mapping[str, Any], path: str) -> tuple[ContainerSpec, list[str]]:
    warnings = []
    resources = {}
    for resource, text in decoded.get("resources", {}).get("limits", {}).items():
        where = f"{path}.resources.limits[{resource}]"
        if "/" not in resource:
            warnings.append(f"{where} has no effect: the playground accounts for device plugins' resources only")
            continue
        resources[resource] = int(parse_quantity(text))
        if resource.endswith("MiB") and has_suffix(text):
            warnings.append(
                f"{where} is {text}, which means {resources[resource]:,} units of 1 MiB: write a plain number"
            )
    return (
        ContainerSpec(
            name=decoded["name"],
            image=decoded["image"],
            command=tuple(decoded.get("command", ())),
            args=tuple(decoded.get("args", ())),
            working_dir=decoded.get("workingDir", ""),
            env=tuple(EnvVar(variable["name"], variable.get("value", "")) for variable in decoded.get("env", ())),
            resources=resources,
            volume_mounts=tuple(
                VolumeMount(mount["name"], mount["mountPath"], mount.get("readOnly", False))
                for mount in decoded.get("volumeMounts", ())
            ),
        ),
        warnings,
    )
