"""The cluster's own control group in every hierarchy: it contains all processes of the cluster, and no others."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError

REMOVAL_SECONDS = 20.0
"""Seconds for a group's removal, which is possible some moments after its last process has ended."""

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of groups, of type `cgroup` (version 1, its controllers are options) or `cgroup2`."""

    mountpoint: Path
    type: str
    options: str

    def create(self, name: str) -> Path:
        group = self.mountpoint / name
        group.mkdir(exist_ok=True)
        if "cpuset" in self.options.split(","):
            for setting in ("cpuset.cpus", "cpuset.mems"):  # without values, a new version 1 group takes no process
                (group / setting).write_text((self.mountpoint / setting).read_text())
        return group

    @property
    def leaf(self) -> str:
        """Group for processes; in version 2, a group with controlled child groups can have no processes."""
        return "init" if self.type == "cgroup2" else ""

    def open_to_groups(self) -> None:
        """In version 2, enable all available controllers for the groups below this group."""
        if self.type == "cgroup2":
            for controller in (self.mountpoint / "cgroup.controllers").read_text().split():
                (self.mountpoint / "cgroup.subtree_control").write_text(f"+{controller}")


def hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Mounted hierarchies in /proc/self/mountinfo's text (Linux, Documentation/filesystems/proc.rst, 3.5).

    If several mounts are on one place, only the last mount is visible.
    """
    found: dict[Path, Hierarchy] = {}
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            meaningful = [option for option in options.split(",") if option not in {"rw", "ro"}]
            if kind == "cgroup" and any(option.startswith("name=") for option in meaningful):
                meaningful.append("none")
            mountpoint = Path(mount.split(" ")[4])
            found[mountpoint] = Hierarchy(mountpoint, kind, ",".join(["rw", *meaningful]))
    return tuple(found.values())


def remove(groups: Sequence[Path]) -> None:
    deadline = time.monotonic() + REMOVAL_SECONDS
    while left := [group for group in groups if not _removed(group)]:
        if time.monotonic() > deadline:
            raise ConfcomError(
                f"control groups cannot be removed: {', '.join(map(str, left))}",
                why="processes in them do not end",
                remedy="see their cgroup.procs",
            )
        time.sleep(POLL_SECONDS)


def _removed(group: Path) -> bool:
    if not group.is_dir():
        return True
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            for pid in map(int, Path(folder, "cgroup.procs").read_text().split()):
                if pid:  # 0: a process that this PID namespace does not show
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.is_dir()
