"""Sources of mounts on the simulated node: hostPath volumes, directories from Allocate, empty directories."""

from __future__ import annotations

import stat
from pathlib import Path

from confcom.playground.layout import Layout
from confcom.playground.manifests.manifest import Volume
from confcom.playground.runtime.container_plan import ContainerError, ContainerPlan

_CHECKS = {
    "Directory": stat.S_ISDIR,
    "DirectoryOrCreate": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}
"""The check of an existing path for each hostPath type; the empty type has none."""


def prepare_host_path(layout: Layout, volume: Volume) -> None:
    """Create or check a hostPath volume's source on the simulated node, as the kubelet does.

    Raises:
        ContainerError: the check of its type fails (the kubelet's FailedMount), or it leads out of the node's root.
    """
    if volume.host_path is None:
        return
    path = resolve_host_path(layout, volume.host_path)
    try:
        if not path.exists():
            if volume.host_path_type == "FileOrCreate":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            elif volume.host_path_type in {"", "DirectoryOrCreate"}:
                path.mkdir(parents=True)
        check = _CHECKS.get(volume.host_path_type)
        if check is None or check(path.stat().st_mode):
            return
    except OSError as error:
        why = str(error)
    else:
        why = "it is something else"
    raise ContainerError(
        f'MountVolume.SetUp failed for volume "{volume.name}" : hostPath type check failed: {volume.host_path} is not '
        f"a {volume.host_path_type or 'Directory'}",
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
            raise ContainerError(f"the source of {bind.container_path} cannot be created", why=str(error)) from None


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
            why=f"a symbolic link below {layout.node_root} points to the machine",
            remedy="remove that link",
        )
    return path
