"""The plan of a container, made before anything runs: argv, environment, devices, mounts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from confcom.errors import ConfcomError
from confcom.playground.api.views import DeviceView, MountView
from confcom.playground.kubelet.allocation import Allocation
from confcom.playground.manifests import v1
from confcom.playground.runtime.images import Image

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")

HOST_DEVICE = "/dev/null"
"""The only device of the machine that containers get; a simulated enclave device is this one at SGX's paths."""


class ContainerError(ConfcomError):
    """A container cannot be created; the reason in the pod's status is CreateContainerError."""

    error_code = "container-not-created"


@dataclass(frozen=True, slots=True)
class Bind:
    """A real file or directory to mount at a path of the container."""

    source: Path
    container_path: PurePosixPath
    read_only: bool


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """Everything that the runner needs, and what the node shows of the container."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    working_dir: str
    devices: tuple[DeviceView, ...]
    mounts: tuple[MountView, ...]
    binds: tuple[Bind, ...]
    """In mount order: parents first; a later mount covers an earlier one at the same path."""


def plan_container(
    spec: v1.Container,
    volumes: Mapping[str, v1.Volume],
    image: Image,
    allocation: Allocation,
    *,
    hostname: str,
    host_path: Callable[[str], Path],
    empty_dir: Callable[[str], Path],
) -> ContainerPlan:
    """Combine manifest, image and allocation, as kubelet and container runtime do.

    Args:
        spec: the container.
        volumes: the pod's volumes by name.
        image: the image that the container names.
        allocation: the merged Allocate responses.
        hostname: the pod's name.
        host_path: returns the real path of a path of the simulated node.
        empty_dir: returns the real path of an emptyDir of the pod, by the volume's name.

    Raises:
        ContainerError: a plugin asks for another device of the machine than HOST_DEVICE, nothing can be mounted at a
            mount path, or the program's name contains '='.
    """
    for device in allocation.devices:
        if device.host_path != HOST_DEVICE:
            raise ContainerError(
                f"the device {device.host_path} is not given out",
                error_code="device-not-given-out",
                why=f"the playground hands out no device of the machine but {HOST_DEVICE}",
                remedy="start the device plugin with --simulated",
            )
    base = {"HOSTNAME": hostname, "HOME": "/root", **image.env, **allocation.envs}
    env = environment(base, spec.env)
    command = spec.command or image.argv
    argv = tuple(expand(part, env) for part in (*command, *spec.args))
    if "=" in argv[0]:
        raise ContainerError(
            f"the program's name {argv[0]!r} contains '='",
            error_code="program-name-invalid",
            remedy="start it by another name",
        )

    mounts = [(view, _bind(view, host_path(view.host_path))) for view in allocation.mounts]
    for mount in spec.volume_mounts:
        volume = volumes[mount.name]
        path = volume.host_path.path if volume.host_path else ""
        view = MountView(mount.mount_path, path, mount.read_only, f"volume {mount.name}")
        source = host_path(path) if path else empty_dir(volume.name)
        mounts.append((view, _bind(view, source)))
    # The order of containerd: parents first; at the same path the user's mount covers a plugin's mount.
    mounts.sort(key=lambda mount: len(mount[1].container_path.parts))
    return ContainerPlan(
        argv=argv,
        env=env,
        working_dir=spec.working_dir or "/",
        devices=allocation.devices,
        mounts=tuple(view for view, _ in mounts),
        binds=tuple(bind for _, bind in mounts),
    )


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value and `$$` by `$`; leave unknown names unchanged."""
    return _REFERENCE.sub(lambda match: "$" if match[1] is None else variables.get(match[1], match[0]), text)


def environment(base: Mapping[str, str], manifest: Iterable[v1.EnvVar]) -> dict[str, str]:
    """Return a container's environment. A manifest's variable may refer to earlier ones, and replaces one of its name.

    Args:
        base: the variables of the image and the device plugins.
        manifest: the manifest's variables in their order.
    """
    variables = dict(base)
    for variable in manifest:
        variables[variable.name] = expand(variable.value, variables)
    return variables


def _bind(view: MountView, source: Path) -> Bind:
    path = PurePosixPath("/", view.container_path)
    if path == PurePosixPath("/") or ".." in path.parts or "\0" in view.container_path:
        raise ContainerError(
            f"nothing can be mounted at {view.container_path!r}",
            error_code="mount-path-invalid",
            why="a mount path names a place below / without going up",
            remedy="choose another mountPath",
        )
    return Bind(source, path, view.read_only)
