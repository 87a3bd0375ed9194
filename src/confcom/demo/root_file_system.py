"""A shell script that builds a container's root file system: the machine's files, with a new /dev, /proc and /run.

The script runs in a new mount namespace and builds the root on a tmpfs. It therefore creates nothing on the machine,
not even mount points.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confcom.errors import ConfcomError

DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")
"""The devices of every container by the OCI runtime specification; they are bound from the machine."""

_DEV, _PROC = Path("/dev"), Path("/proc")
_DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_RUN = ("/run", "/var/run")
_AESMD = "aesmd"
"""The machine's own aesmd is hidden: a container must get its quotes from the node's."""
_LOCKED_FLAGS = {os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
"""Mount flags that a remount in a user namespace must repeat, since the kernel locks them: mount_namespaces(7)."""


class ContainerError(ConfcomError):
    """A container cannot be created."""

    error_code = "container-not-created"


@dataclass(frozen=True, slots=True)
class Bind:
    """A real file or directory to mount at a path of the container."""

    source: Path
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """A container's program, environment and mounts."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    """In mount order: parents first."""


def root_script(plan: ContainerPlan, tools: Mapping[str, str], *, root: Path, ready: Path) -> str:
    """Return the script that builds the root and executes the container's program, whose stderr goes to stdout.

    The new root is mounted over the empty directory `root`. The file `ready` is created when everything is mounted.
    """
    script = _Script(tools, root)
    script.copy_directory(Path("/"), without={_DEV.name, _PROC.name})
    for run in dict.fromkeys(os.path.realpath(path) for path in _RUN):
        script.copy_directory(Path(run), without={_AESMD})
    script.proc()
    script.dev()
    for bind in plan.binds:
        script.bind(bind)
    variables = [f"{name}={value}" for name, value in plan.env.items()]
    script.lines.append(f": > {shlex.quote(str(ready))}")
    words = [tools["chroot"], str(root), tools["env"], "-i", "--", *variables, *plan.argv]
    script.lines.append(f"exec {shlex.join(words)} 2>&1")
    return "\n".join(["set -e", *script.lines, ""])


class _Script:
    def __init__(self, tools: Mapping[str, str], root: Path) -> None:
        self.lines: list[str] = []
        self._tools = tools
        self._root = root
        self._own = {_DEV}
        """Directories on a tmpfs of the container, in which mount points can be created."""

    def copy_directory(self, directory: Path, *, without: Collection[str]) -> None:
        self._tmpfs(directory)
        self._own.add(directory)
        names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        # The directory that contains the new root is bound first, so that it does not show the later mounts again.
        for name in sorted(names, key=lambda name: directory / name not in self._root.parents):
            if name not in without:
                self._copy(directory / name)

    def proc(self) -> None:
        self._run("mkdir", "-p", self._at(_PROC))
        new = self._mount_command("-t", "proc", "proc", self._at(_PROC))
        # Where parts of /proc are hidden, as in containers, the kernel refuses to mount a complete one.
        self.lines.append(f"{new} 2>/dev/null || {self._mount_command('--rbind', '/proc', self._at(_PROC))}")

    def dev(self) -> None:
        # Mode 755: in a world-writable, sticky directory the kernel refuses open(O_CREAT) on a device node.
        self._tmpfs(_DEV)
        for name in DEVICE_NODES:
            if (_DEV / name).exists():
                self._copy(_DEV / name)
        for name, target in _DEV_LINKS.items():
            self._run("ln", "-s", target, self._at(_DEV / name))
        self._tmpfs(_DEV / "shm", mode="1777")

    def bind(self, bind: Bind) -> None:
        """Add one mount, at the place to which the machine's links lead, such as /run/aesmd for /var/run/aesmd."""
        target = Path(os.path.realpath(bind.container_path))
        own = self._own & set(target.parents)
        if own == {Path("/")} and (Path("/") / target.parts[1]).exists() and not target.exists():
            raise ContainerError(
                f"nothing can be mounted at {bind.container_path}",
                error_code="mount-point-missing",
                why="the demo creates mount points only below /run, and in new directories of /",
                remedy="choose another mountPath",
            )
        if bind.source.is_dir():
            self._run("mkdir", "-p", self._at(target))
        else:
            self._run("mkdir", "-p", self._at(target.parent))
            self.lines.append(f": >> {shlex.quote(self._at(target))}")
        self._mount("--bind", str(bind.source), self._at(target))
        if bind.read_only:
            locked = os.statvfs(bind.source).f_flag
            flags = [name for flag, name in _LOCKED_FLAGS.items() if locked & flag]
            self._mount("-o", ",".join(["remount", "bind", "ro", *flags]), self._at(target))

    def _copy(self, path: Path) -> None:
        """Show an entry of the machine at the same path; if its mount fails, it stays empty."""
        if path.is_symlink():
            self._run("ln", "-s", "--", str(path.readlink()), self._at(path))
        elif path.is_dir():
            self._run("mkdir", "-p", self._at(path))
            self.lines.append(f"{self._mount_command('--rbind', str(path), self._at(path))} || :")
        else:
            self.lines.append(f": > {shlex.quote(self._at(path))}")
            self.lines.append(f"{self._mount_command('--bind', str(path), self._at(path))} || :")

    def _tmpfs(self, path: Path, mode: str = "755") -> None:
        self._run("mkdir", "-p", self._at(path))
        self._mount("-t", "tmpfs", "-o", f"mode={mode}", "confcom-demo", self._at(path))

    def _at(self, path: Path) -> str:
        return str(self._root.joinpath(*path.parts[1:]))

    def _mount(self, *arguments: str) -> None:
        self.lines.append(self._mount_command(*arguments))

    def _mount_command(self, *arguments: str) -> str:
        # -n: otherwise mount(8) would write to the machine's /run/mount.
        return shlex.join([self._tools["mount"], "-n", *arguments])

    def _run(self, tool: str, *arguments: str) -> None:
        self.lines.append(shlex.join([self._tools[tool], *arguments]))
