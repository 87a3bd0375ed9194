"""Sources of mounts on the simulated node: hostPath volumes, directories from Allocate, empty directories."""

from __future__ import annotations

import stat
from pathlib import Path

from confcom.playground.layout import Layout
from confcom.playground.manifests.v1 import HostPathType, Volume
from confcom.playground.runtime.container_plan import ContainerError, ContainerPlan

_CHECKS = {
    HostPathType.DIRECTORY: stat.S_ISDIR,
    HostPathType.DIRECTORY_OR_CREATE: stat.S_ISDIR,
    HostPathType.FILE: stat.S_ISREG,
    HostPathType.FILE_OR_CREATE: stat.S_ISREG,
    HostPathType.SOCKET: stat.S_ISSOCK,
    HostPathType.CHAR_DEVICE: stat.S_ISCHR,
    HostPathType.BLOCK_DEVICE: stat.S_ISBLK,
}
"""The check of an existing path for each hostPath type; the empty type has none."""


def prepare_host_path(layout: Layout, volume: Volume) -> None:
    """Create or check a hostPath volume's source on the simulated node, as the kubelet does.

    Raises:
        ContainerError: the check of its type fails (the kubelet's FailedMount), or it leads out of the node's root.
    """
    if volume.host_path is None:
        return
    wanted = volume.host_path.type
    path = resolve_host_path(layout, volume.host_path.path)
    try:
        if not path.exists():
            if wanted is HostPathType.FILE_OR_CREATE:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            elif wanted in {HostPathType.UNSET, HostPathType.DIRECTORY_OR_CREATE}:
                path.mkdir(parents=True)
        check = _CHECKS.get(wanted)
        if check is None or check(path.stat().st_mode):
            return
    except OSError as error:
        why = str(error)
    else:
        why = "it is something else"
    raise ContainerError(
        f'MountVolume.SetUp failed for volume "{volume.name}" : hostPath type check failed: {volume.host_path.path} is '
        f"not a {wanted or 'Directory'}",
        error_code="host-path-type-differs",
        why=why,
        remedy=f"create it on the simulated node, that is at {path}, or leave the volume's type out",
    )


def prepare_mounts(plan: ContainerPlan) -> None:
    """Create each missing source of a plan's binds as a directory, as container runtimes do.

    Raises:
        ContainerError: a source cannot be created.
    """
    for bind in plan.binds:
        try:
            if not bind.source.exists():
                bind.source.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ContainerError(
                f"the source of {bind.container_path} cannot be created",
                error_code="mount-source-not-created",
                why=str(error),
            ) from None


def resolve_host_path(layout: Layout, host_path: str) -> Path:
    """Return the real path of a path of the simulated node; refuse one that leads out of the node's root.

    Raises:
        ContainerError: a symbolic link on the node leads out of its root.
    """
    path = layout.host_path(host_path)
    root = layout.node_root.resolve()
    if not path.resolve().is_relative_to(root):
        raise ContainerError(
            f"the node's path {host_path} leads out of the node",
            error_code="path-leads-out",
            why=f"a symbolic link below {layout.node_root} points to the machine",
            remedy="remove that link",
        )
    return path
