"""The Job of a file, with the fields that the demo knows; any other field is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from confcom.demo.device_manager import Mount
from confcom.errors import MalformedError
from confcom.kubelet_api.resource_names import LABEL, MAX_LABEL, extended_resource


class JobFileError(MalformedError):
    """The demo cannot run the Job of a file as it stands."""

    error_code = "job-file-unusable"


@dataclass(frozen=True, slots=True)
class Job:
    """A Job with one container."""

    name: str
    container: str = "main"
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


def example(name: str) -> Path:
    """Return the path of an example file, such as job.yaml."""
    return Path(str(resources.files("confcom.demo") / "examples" / name))


def read_job(path: Path) -> Job:
    """Read a file with one Job.

    Raises:
        JobFileError: the file has no such Job, or a field that the demo does not know.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise JobFileError(f"{path.name} cannot be read", why=" ".join(str(error).split())) from None
    job = _read_object(document, JOB, f"{path.name}: job")
    pod = job["spec"]["template"]["spec"]
    container, volumes = pod["containers"], {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if mount["name"] not in volumes:
            raise _unusable(f"{path.name}: volumeMounts", mount["name"], "name a volume of this Job")
    return Job(
        name=job["metadata"]["name"],
        container=container["name"],
        image=container["image"],
        command=tuple(container["command"]),
        args=tuple(container["args"]),
        env={variable["name"]: variable["value"] for variable in container["env"]},
        limits=container["resources"]["limits"],
        mounts=tuple(
            Mount(mount["mountPath"], volumes[mount["name"]], mount["readOnly"]) for mount in container["volumeMounts"]
        ),
    )


def _text(pattern: str = ".*", wanted: str = 'text; a number is text in quotes, as in "1"') -> Callable[..., str]:
    def read(value: object, place: str) -> str:
        if not isinstance(value, str) or "\0" in value or not re.fullmatch(pattern, value, re.DOTALL):
            raise _unusable(place, value, f"write {wanted}")
        if "$(" in value:
            raise _unusable(place, value, "write the value: the demo does not replace references to variables")
        return value

    return read


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise _unusable(place, value, "write true or false")
    return value


def _limits(value: object, place: str) -> dict[str, int]:
    if not isinstance(value, dict):
        raise _unusable(place, value, "write the names of resources with their amounts")
    for name, amount in value.items():
        if not extended_resource(str(name)):
            raise _unusable(place, name, "name a resource of a device plugin; the demo counts no other")
        if not re.fullmatch("[0-9]{1,9}", str(amount)):
            raise _unusable(f"{place}.{name}", amount, "write a whole number without a unit")
    return {str(name): int(str(amount)) for name, amount in value.items()}


def _one_container(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, list) or len(value) != 1:
        raise _unusable(place, value, "write one container: the demo runs exactly one")
    container = _read_object(value[0], CONTAINER, f"{place}[0]")
    if "=" in "".join(container["command"][:1]):  # env(1), which starts it, would take it for a variable
        raise _unusable(f"{place}[0].command", container["command"], "start a program without '=' in its name")
    return container


@dataclass(frozen=True, slots=True)
class _Optional:
    shape: object
    default: object


NAME = _text(f"(?=.{{1,{MAX_LABEL}}}$){LABEL}", f"at most {MAX_LABEL} lower-case letters, digits and '-'")
PATH = _text(r"(/(?!\.\.(/|$))[^/]+)+/?", "an absolute path below /, without '..'")

# A shape is a function that reads a value, a list with the shape of the items, or a dict with those of the fields.
CONTAINER = {
    "name": NAME,
    "image": _text(),
    "imagePullPolicy": _Optional(_text(), ""),  # without effect: the demo pulls nothing
    "command": _Optional([_text()], []),
    "args": _Optional([_text()], []),
    "env": _Optional([{"name": _text("[^=]+", "a name without '='"), "value": _text()}], []),
    "resources": _Optional({"limits": _limits}, {"limits": {}}),
    "volumeMounts": _Optional([{"name": NAME, "mountPath": PATH, "readOnly": _Optional(_flag, default=False)}], []),
}
POD = {
    "containers": _one_container,
    "restartPolicy": _text("Never", "Never"),
    "volumes": _Optional([{"name": NAME, "hostPath": {"path": PATH}}], []),
}
JOB = {
    "apiVersion": _text("batch/v1", "batch/v1"),
    "kind": _text("Job", "Job"),
    "metadata": {"name": NAME},
    "spec": {"template": {"spec": POD}},
}


def _read(value: object, shape: object, place: str) -> object:
    if isinstance(shape, dict):
        return _read_object(value, shape, place)
    if callable(shape):
        return shape(value, place)
    if not isinstance(shape, list) or not isinstance(value, list):
        raise _unusable(place, value, "write a list")
    return [_read(item, shape[0], f"{place}[{index}]") for index, item in enumerate(value)]


def _read_object(value: object, shape: Mapping[str, object], place: str) -> dict[str, Any]:
    """Return an object in which absent optional fields have their defaults."""
    if not isinstance(value, dict):
        raise _unusable(place, value, f"write an object with {', '.join(shape)}")
    for name in value:
        if name not in shape:
            raise JobFileError(
                f"{place} has the field {name}, which the demo does not know",
                error_code="job-field-unknown",
                why=f"the demo knows {', '.join(shape)} there",
                remedy="remove the field, or run the Job on a cluster",
            )
    found = {}
    for name, part in shape.items():
        if isinstance(part, _Optional):
            found[name] = _read(value[name], part.shape, f"{place}.{name}") if name in value else part.default
        else:
            found[name] = _read(value.get(name), part, f"{place}.{name}")
    return found


def _unusable(place: str, value: object, remedy: str) -> JobFileError:
    why = "it is missing" if value is None else f"it is {value!r}"
    return JobFileError(f"{place} cannot be used", error_code="job-value-unusable", why=why, remedy=remedy)
