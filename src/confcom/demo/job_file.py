"""Reads a Job from a file, which may have only fields that the demo knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from confcom.errors import MalformedError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubernetes.names import LABEL, MAX_LABEL, extended_resource


class JobFileError(MalformedError):
    """The demo cannot run the Job that the file describes."""

    error_code = "job-file-unusable"


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    container: str = "main"
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    mounts: tuple[pb.Mount, ...] = ()


Name = Annotated[str, Meta(pattern=f"^{LABEL}$", max_length=MAX_LABEL)]
AbsolutePath = Annotated[str, Meta(pattern=r"^(/(?!\.\.(/|$))[^/\0]+)+/?$")]
Text = Annotated[str, Meta(pattern=r"^([^$\0]|\$(?!\())*$")]
"""Text that has no variable references such as $(HOME), since the demo does not replace references."""


class _Fields(Struct, forbid_unknown_fields=True, rename="camel"):
    pass


class _Variable(_Fields):
    name: Annotated[str, Meta(pattern=r"^[^=\0]+$")]
    value: Text


class _VolumeMount(_Fields):
    name: Name
    mount_path: AbsolutePath
    read_only: bool = False


class _Resources(_Fields):
    limits: dict[str, Annotated[int, Meta(ge=0)]] = {}


class _Container(_Fields):
    name: Name
    image: Text
    image_pull_policy: str = ""  # ignored: the demo pulls no images
    command: tuple[Text, ...] = ()
    args: tuple[Text, ...] = ()
    env: tuple[_Variable, ...] = ()
    resources: _Resources = msgspec.field(default_factory=_Resources)
    volume_mounts: tuple[_VolumeMount, ...] = ()


class _HostPath(_Fields):
    path: AbsolutePath


class _Volume(_Fields):
    name: Name
    host_path: _HostPath


class _PodSpec(_Fields):
    containers: tuple[_Container]
    restart_policy: Literal["Never"]
    volumes: tuple[_Volume, ...] = ()


class _PodTemplate(_Fields):
    spec: _PodSpec


class _JobSpec(_Fields):
    template: _PodTemplate


class _Metadata(_Fields):
    name: Name


class _JobFile(_Fields):
    api_version: Literal["batch/v1"]
    kind: Literal["Job"]
    metadata: _Metadata
    spec: _JobSpec


def example(name: str) -> Path:
    return Path(str(resources.files("confcom.demo") / "examples" / name))


def read_job(path: Path) -> Job:
    try:
        file = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _JobFile)
    except msgspec.ValidationError as error:
        raise _unusable(path, str(error)) from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise JobFileError(f"{path.name} cannot be read", why=" ".join(str(error).split())) from None
    pod = file.spec.template.spec
    (container,) = pod.containers
    volumes = {volume.name: volume.host_path.path for volume in pod.volumes}
    for mount in container.volume_mounts:
        if mount.name not in volumes:
            raise _unusable(path, f"there is no volume {mount.name}")
    for name in container.resources.limits:
        if not extended_resource(name):
            raise _unusable(path, f"{name} is no resource of a device plugin, and the demo counts no other")
    if "=" in "".join(container.command[:1]):  # env(1) starts the program, and would take A=B for a variable
        raise _unusable(path, f"a program cannot have the name {container.command[0]}")
    return Job(
        name=file.metadata.name,
        container=container.name,
        image=container.image,
        command=container.command,
        args=container.args,
        env={variable.name: variable.value for variable in container.env},
        limits=container.resources.limits,
        mounts=tuple(
            pb.Mount(container_path=mount.mount_path, host_path=volumes[mount.name], read_only=mount.read_only)
            for mount in container.volume_mounts
        ),
    )


def _unusable(path: Path, why: str) -> JobFileError:
    return JobFileError(
        f"the demo cannot run the Job of {path.name}",
        why=why,
        remedy="change that field back; the demo knows the fields of the examples, a cluster all of Kubernetes' fields",
    )
