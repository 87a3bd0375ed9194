"""Measures and limits the memory of a control group, as a container's memory limit does."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testkit.conditions import wait_until

VERSION_1, VERSION_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
"""Folders of the memory controller in versions 1 and 2 of control groups; only version 1 was tried."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    folder: Path

    @property
    def highest(self) -> int:
        """Highest memory use of the group so far, in bytes."""
        (path,) = self._named("memory.max_usage_in_bytes", "memory.peak")
        return int(path.read_text())

    @property
    def killed(self) -> int:
        """Number of the group's processes that the kernel has killed for lack of memory."""
        text = "".join(path.read_text() for path in self._named("memory.oom_control", "memory.events"))
        return sum(int(line.split()[1]) for line in text.splitlines() if line.split()[0] == "oom_kill")

    def command(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """A command that enters the group and then executes the given command."""
        return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command)

    def remove(self) -> bool:
        """Kill the group's processes; return whether the group is gone, which may take some moments."""
        with contextlib.suppress(OSError):
            for pid in (self.folder / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return not self.folder.exists()

    def _named(self, *names: str) -> list[Path]:
        return [path for name in names if (path := self.folder / name).exists()]


@contextlib.contextmanager
def limited_memory(name: str, size: int) -> Iterator[MemoryGroup]:
    """Make a memory group at the top of the hierarchy for the duration of the block; this needs root."""
    top = VERSION_1 if VERSION_1.is_dir() else VERSION_2
    if top is VERSION_2:
        (top / "cgroup.subtree_control").write_text("+memory")
    group = MemoryGroup(top / name)
    group.folder.mkdir()
    try:
        for path in group._named("memory.limit_in_bytes", "memory.max"):
            path.write_text(str(size))
        yield group
    finally:
        wait_until(group.remove)
