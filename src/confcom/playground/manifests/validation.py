"""The API server's validation of decoded manifests, with its field paths and error texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confcom.kubelet_api.resource_names import LABEL, MAX_LABEL, SUBDOMAIN, extended_resource
from confcom.playground.api.errors import ManifestError
from confcom.playground.manifests.quantity import parse_quantity

_NOT_A_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
_NOT_A_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
_NATIVE_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
)  # fmt: skip

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
"""core/v1 PullPolicy. Nothing is pulled here, so the three have the same effect."""


def validate(decoded: Mapping[str, Any], kind: str) -> None:
    """Refuse a manifest that the API server refuses.

    Args:
        decoded: the decoder's result.
        kind: `Job` or `Pod`.

    Raises:
        ManifestError: the manifest is invalid; the message lists all errors as `kubectl` shows them.
    """
    errors = list(_object(decoded, kind))
    if not errors:
        return
    qualified = "Job.batch" if kind == "Job" else kind
    name = decoded.get("metadata", {}).get("name", "")
    listed = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    raise ManifestError(
        f'{qualified} "{name}" is invalid: {listed}', why="the API server validates every object in this way"
    )


def _object(decoded: Mapping[str, Any], kind: str) -> Iterator[str]:
    yield from _name(decoded.get("metadata", {}).get("name"), "metadata.name")
    spec = decoded.get("spec", {})
    if kind == "Pod":
        yield from _pod_spec(spec, "spec")
        return
    if (limit := spec.get("backoffLimit", 0)) < 0:
        yield f"spec.backoffLimit: Invalid value: {limit}: must be greater than or equal to 0"
    pod_spec = spec.get("template", {}).get("spec", {})
    yield from _pod_spec(pod_spec, "spec.template.spec")
    if pod_spec.get("restartPolicy", "Always") == "Always":
        yield 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'


def _name(name: str | None, path: str) -> Iterator[str]:
    if not name:
        yield f"{path}: Required value: name or generateName is required"
    elif not re.fullmatch(SUBDOMAIN, name):
        yield f'{path}: Invalid value: "{name}": {_NOT_A_SUBDOMAIN}'
    elif len(name) > MAX_LABEL:
        # In a cluster a pod's name may be longer; here it is also the name of a directory and of files.
        yield f'{path}: Invalid value: "{name}": must be no more than {MAX_LABEL} characters'


def _pod_spec(spec: Mapping[str, Any], path: str) -> Iterator[str]:
    volumes = spec.get("volumes", [])
    for index, volume in enumerate(volumes):
        yield from _label(volume.get("name"), f"{path}.volumes[{index}].name")
        if "hostPath" in volume:
            where = f"{path}.volumes[{index}].hostPath"
            if "emptyDir" in volume:
                yield f"{where}: Forbidden: may not specify more than 1 volume type"
            else:
                yield from _host_path(volume["hostPath"], where)
    yield from _duplicates((volume.get("name") for volume in volumes), f"{path}.volumes")
    containers = spec.get("containers", [])
    if not containers:
        yield f"{path}.containers: Required value"
    names = {volume.get("name") for volume in volumes}
    for index, container in enumerate(containers):
        yield from _container(container, f"{path}.containers[{index}]", names)
    yield from _duplicates((container.get("name") for container in containers), f"{path}.containers")
    policy = spec.get("restartPolicy", "Always")
    if policy not in {"Always", "OnFailure", "Never"}:
        yield (f'{path}.restartPolicy: Unsupported value: "{policy}": supported values: "Always", "Never", "OnFailure"')
    if (grace := spec.get("terminationGracePeriodSeconds", 0)) < 0:
        yield f"{path}.terminationGracePeriodSeconds: Invalid value: {grace}: must be greater than or equal to 0"


def _label(name: str | None, path: str) -> Iterator[str]:
    if not name:
        yield f"{path}: Required value"
    elif not re.fullmatch(LABEL, name):
        yield f'{path}: Invalid value: "{name}": {_NOT_A_LABEL}'
    elif len(name) > MAX_LABEL:
        yield f'{path}: Invalid value: "{name}": must be no more than {MAX_LABEL} characters'


def _duplicates(names: Iterable[str | None], path: str) -> Iterator[str]:
    seen = set()
    for index, name in enumerate(names):
        if name in seen:
            yield f'{path}[{index}].name: Duplicate value: "{name}"'
        seen.add(name)


def _host_path(source: Mapping[str, Any], path: str) -> Iterator[str]:
    if not source.get("path"):
        yield f"{path}.path: Required value"
    elif ".." in source["path"].split("/"):
        yield f"{path}.path: Invalid value: \"{source['path']}\": must not contain '..'"
    if source.get("type", "") not in _HOST_PATH_TYPES:
        listed = ", ".join(f'"{name}"' for name in _HOST_PATH_TYPES)
        yield f'{path}.type: Unsupported value: "{source["type"]}": supported values: {listed}'


def _container(container: Mapping[str, Any], path: str, volumes: set[str | None]) -> Iterator[str]:
    yield from _label(container.get("name"), f"{path}.name")
    if not container.get("image"):
        yield f"{path}.image: Required value"
    for index, variable in enumerate(container.get("env", [])):
        name = variable.get("name", "")
        if not name:
            yield f"{path}.env[{index}].name: Required value"
        elif "=" in name or not name.isprintable():
            yield (
                f'{path}.env[{index}].name: Invalid value: "{name}": a valid environment variable name must consist '
                "only of printable ASCII characters other than '='"
            )
        if "\0" in variable.get("value", ""):
            yield f"{path}.env[{index}].value: Invalid value: must not contain NUL"
    yield from _resources(container.get("resources", {}), f"{path}.resources")
    yield from _mounts(container.get("volumeMounts", []), f"{path}.volumeMounts", volumes)
    pull = container.get("imagePullPolicy", "Never")
    if pull not in _PULL_POLICIES:
        supported = ", ".join(f'"{policy}"' for policy in _PULL_POLICIES)
        yield f'{path}.imagePullPolicy: Unsupported value: "{pull}": supported values: {supported}'


def _mounts(mounts: Iterable[Mapping[str, Any]], path: str, volumes: set[str | None]) -> Iterator[str]:
    paths = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        if not mount.get("name"):
            yield f"{where}.name: Required value"
        elif mount["name"] not in volumes:
            yield f'{where}.name: Not found: "{mount["name"]}"'
        if not (mount_path := mount.get("mountPath", "")):
            yield f"{where}.mountPath: Required value"
        elif mount_path in paths:
            yield f'{where}.mountPath: Invalid value: "{mount_path}": must be unique'
        paths.add(mount_path)


def _resources(resources: Mapping[str, Any], path: str) -> Iterator[str]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name, text in limits.items():
        yield from _resource(name, text, f"{path}.limits")
    for name, text in requests.items():
        yield from _resource(name, text, f"{path}.requests")
        if name not in limits:
            if extended_resource(name):
                yield f"{path}.limits: Required value: Limit must be set for non overcommitable resources"
        elif extended_resource(name):
            if parse_quantity(text) != parse_quantity(limits[name]):
                yield f'{path}.requests: Invalid value: "{text}": must be equal to {name} limit of {limits[name]}'
        elif parse_quantity(text) > parse_quantity(limits[name]):
            yield (
                f'{path}.requests: Invalid value: "{text}": must be less than or equal to {name} limit of '
                f"{limits[name]}"
            )


def _resource(name: str, text: str, path: str) -> Iterator[str]:
    value = parse_quantity(text)
    if name not in _NATIVE_RESOURCES and not name.startswith("hugepages-") and not extended_resource(name):
        yield f'{path}[{name}]: Invalid value: "{name}": must be a standard resource type or fully qualified'
    if value < 0:
        yield f'{path}[{name}]: Invalid value: "{text}": must be greater than or equal to 0'
    elif extended_resource(name) and value.denominator != 1:
        yield f"{path}[{name}]: Invalid value: {text}: must be an integer"
