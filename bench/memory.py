"""Memory as a control group counts it: what a container's limit is about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import UnavailableError
from e2e.cluster.cgroups import Hierarchy, hierarchies, remove


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group, of either version; only version 1 was tried."""

    folder: Path

    @property
    def highest(self) -> int:
        (path,) = self._named("memory.max_usage_in_bytes", "memory.peak")
        return int(path.read_text())

    @property
    def killed(self) -> int:
        """How many processes the kernel has ended because memory ran out."""
        text = "".join(path.read_text() for path in self._named("memory.oom_control", "memory.events"))
        return sum(int(line.split()[1]) for line in text.splitlines() if line.split()[0] == "oom_kill")

    def set_limit(self, size: int) -> None:
        for path in self._named("memory.limit_in_bytes", "memory.max"):
            path.write_text(str(size))

    def command(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """The command that becomes this one, in the group from its first byte on."""
        return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command)

    def _named(self, *names: str) -> list[Path]:
        return [path for name in names if (path := self.folder / name).exists()]


def memory_hierarchy(mountinfo: str) -> Hierarchy:
    """Where memory is counted, from the text of /proc/self/mountinfo."""
    found = hierarchies(mountinfo)
    counting = [one for one in found if one.type == "cgroup" and "memory" in one.options.split(",")]
    counting += [one for one in found if one.type == "cgroup2"]
    if not counting:
        raise UnavailableError("no control group that counts memory is mounted", remedy="mount /sys/fs/cgroup")
    return counting[0]


@contextlib.contextmanager
def limited_memory(name: str, size: int) -> Iterator[MemoryGroup]:
    """A group of its own for the block, at the top of the hierarchy; what still runs in it at the end is killed."""
    hierarchy = memory_hierarchy(Path("/proc/self/mountinfo").read_text())
    hierarchy.open_to_groups()
    group = MemoryGroup(hierarchy.create(name))
    try:
        group.set_limit(size)
        yield group
    finally:
        remove([group.folder])
