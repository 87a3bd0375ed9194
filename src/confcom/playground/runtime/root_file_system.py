"""A shell script that builds a container's root file system: the machine's files, with a new /dev and more mounts.

The script runs in a new mount namespace and builds the root on a tmpfs. It therefore creates nothing on the machine,
not even mount points. This module reads the machine through `Machine`, and returns text.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from confcom.playground.layout import AESMD_DIR
from confcom.playground.runtime.container_plan import Bind, ContainerError, ContainerPlan
from confcom.playground.runtime.machine import Kind, Machine, Tools

MAX_SHADOWED_ENTRIES = 512
"""Limit for the entries of a machine's directory that are bound one by one; more would take too long to mount."""
MAX_LINKS = 40
"""Limit for the symbolic links that are followed in one path: the kernel's (ELOOP, path_resolution(7))."""

DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")
"""The devices of every container by the OCI runtime specification; they are bound from the machine."""

_ROOT = PurePosixPath("/")
_DEV = PurePosixPath("/dev")
_OWN = {_DEV, PurePosixPath("/proc")}
_HIDDEN = (PurePosixPath(AESMD_DIR), PurePosixPath("/run/aesmd"))
"""Paths of the machine's aesmd, which are hidden: a container must get its quotes from the simulated node's."""


def root_script(plan: ContainerPlan, machine: Machine, tools: Tools, *, root: Path, ready: Path) -> str:
    """Return the script that builds the root and executes the container's program.

    Args:
        plan: the container.
        machine: the machine.
        tools: the script's programs.
        root: an empty directory, over which the new root is mounted.
        ready: a file that the script creates when everything is mounted.

    Raises:
        ContainerError: a mount point cannot be created.
    """
    builder = _Builder(machine, tools, root)
    builder.machine()
    builder.devices(device.container_path for device in plan.devices)
    for bind in plan.binds:
        builder.bind(bind)
    builder.lines.append(f": > {_quote(ready)}")
    builder.lines.append(f"exec {_quote(tools.chroot)} {_quote(root)} {program(plan, tools)}")
    return "\n".join(["set -e", *builder.lines, ""])


def program(plan: ContainerPlan, tools: Tools) -> str:
    """Return the last command of a script: change directory, clear and set the environment, execute the program.

    Its stderr goes to stdout.
    """
    variables = [f"{name}={value}" for name, value in plan.env.items()]
    words = [plan.working_dir, tools.env, "-i", "--", *variables, *plan.argv]
    change = 'cd -- "$0" && exec "$@"'
    return f"{_quote(tools.sh)} -c {_quote(change)} {shlex.join(words)} 2>&1"


class _Builder:
    def __init__(self, machine: Machine, tools: Tools, root: Path) -> None:
        self.lines: list[str] = []
        self._machine = machine
        self._tools = tools
        self._root = root
        self._shadowed = {_ROOT}
        """Directories of the new root on which the script has mounted a tmpfs."""
        self._bound: list[PurePosixPath] = []
        self._hidden = {self._resolve(path) for path in _HIDDEN}

    def machine(self) -> None:
        """Add the machine's files, the /proc of the new PID namespace, and a new /dev."""
        self._mount("-t", "tmpfs", "-o", "mode=755", "playground", str(self._root))
        # The directory that contains the new root is bound first, so that it does not show the later mounts again.
        root_entry = self._root.parts[1] if len(self._root.parts) > 1 else ""
        for name in sorted(self._machine.entries(_ROOT), key=lambda name: (name != root_entry, name)):
            if _ROOT / name not in _OWN:
                self._copy(_ROOT / name)
        for hidden in self._hidden:
            if self._machine.kind(hidden) is not Kind.MISSING:
                self._shadow(hidden.parent)
        self._directory(PurePosixPath("/proc"))
        proc = _quote(self._at(PurePosixPath("/proc")))
        mount = _quote(self._tools.mount)
        # Where parts of /proc are hidden, as in containers, the kernel refuses to mount a complete one.
        self.lines.append(f"{mount} -n -t proc proc {proc} 2>/dev/null || {mount} -n --rbind /proc {proc}")
        self._directory(_DEV)
        # Mode 755: in a world-writable, sticky directory the kernel refuses open(O_CREAT) on a device node.
        self._mount("-t", "tmpfs", "-o", "mode=755", "playground", str(self._at(_DEV)))
        self._shadowed.add(_DEV)
        for name in DEVICE_NODES:
            if self._machine.kind(_DEV / name) is not Kind.MISSING:
                self._copy(_DEV / name)
        for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            self._link(_DEV / name, target)
        self._directory(_DEV / "shm")
        self._mount("-t", "tmpfs", "-o", "mode=1777", "playground", str(self._at(_DEV / "shm")))

    def devices(self, paths: Iterable[str]) -> None:
        """Add the device nodes from Allocate; each is the machine's /dev/null."""
        for path in paths:
            target = self._resolve(PurePosixPath("/", path))
            self._place(target, Kind.FILE)
            self._mount("--bind", "/dev/null", str(self._at(target)))
            self._bound.append(target)

    def bind(self, bind: Bind) -> None:
        """Add one mount."""
        target = self._resolve(bind.container_path)
        source_kind = self._machine.kind(PurePosixPath(bind.source))
        self._place(target, Kind.DIRECTORY if source_kind is Kind.DIRECTORY else Kind.FILE)
        self._mount("--bind", str(bind.source), str(self._at(target)))
        if bind.read_only:
            flags = ",".join(["remount", "bind", "ro", *self._machine.mount_flags(bind.source)])
            self._mount("-o", flags, str(self._at(target)))
        self._bound.append(target)

    def _place(self, target: PurePosixPath, kind: Kind) -> None:
        if not any(bound in target.parents for bound in self._bound):
            if not self._is_own(target) and self._kind(target) is not Kind.MISSING:
                return
            self._shadow(self._existing_parent(target))
        if kind is Kind.DIRECTORY:
            self._directory(target, parents=True)
        else:
            self._directory(target.parent, parents=True)
            self.lines.append(f": >> {_quote(self._at(target))}")

    def _kind(self, path: PurePosixPath) -> Kind:
        return Kind.MISSING if not self._hidden.isdisjoint({path, *path.parents}) else self._machine.kind(path)

    def _is_own(self, path: PurePosixPath) -> bool:
        return path == _DEV or _DEV in path.parents

    def _existing_parent(self, target: PurePosixPath) -> PurePosixPath:
        if self._is_own(target):
            return _DEV
        return next(parent for parent in target.parents if self._kind(parent) is Kind.DIRECTORY)

    def _shadow(self, directory: PurePosixPath) -> None:
        """Mount a tmpfs with the same entries over a directory, so that entries can be added."""
        if directory in self._shadowed:
            return
        names = self._machine.entries(directory)
        if len(names) > MAX_SHADOWED_ENTRIES:
            raise ContainerError(
                f"a mount path below {directory} cannot be made",
                error_code="too-many-entries",
                why=f"that directory of the machine has {len(names)} entries, and {MAX_SHADOWED_ENTRIES} is the most "
                "that can be carried over one by one",
                remedy="mount at a directory that exists, or below / itself",
            )
        self._mount("-t", "tmpfs", "-o", "mode=755", "playground", str(self._at(directory)))
        self._shadowed.add(directory)
        for name in names:
            self._copy(directory / name)

    def _copy(self, path: PurePosixPath) -> None:
        """Add the machine's entry at the same path of the new root; if its mount fails, it stays empty."""
        match self._kind(path):
            case Kind.LINK:
                self._link(path, self._machine.link_target(path))
            case Kind.DIRECTORY:
                self._directory(path)
                self._mount("--rbind", str(path), str(self._at(path)), on_failure=" || :")
            case Kind.FILE:
                self.lines.append(f": > {_quote(self._at(path))}")
                self._mount("--bind", str(path), str(self._at(path)), on_failure=" || :")
            case Kind.MISSING:
                pass

    def _resolve(self, path: PurePosixPath) -> PurePosixPath:
        """Resolve the machine's symbolic links within the new root, such as /var/run/aesmd to /run/aesmd."""
        pending, resolved, links = list(path.parts[1:]), _ROOT, 0
        while pending:
            part = pending.pop(0)
            if part == "..":
                resolved = resolved.parent
                continue
            step = resolved / part
            if self._is_own(step) or self._machine.kind(step) is not Kind.LINK:
                resolved = step
                continue
            links += 1
            if links > MAX_LINKS:
                raise ContainerError(
                    f"nothing can be mounted at {path}",
                    error_code="too-many-links",
                    why="too many symbolic links lead there",
                )
            target = PurePosixPath(self._machine.link_target(step))
            if target.is_absolute():
                resolved = _ROOT
            pending[:0] = [part for part in target.parts if part != "/"]
        return resolved

    def _at(self, path: PurePosixPath) -> Path:
        return self._root.joinpath(*path.parts[1:])

    def _directory(self, path: PurePosixPath, *, parents: bool = False) -> None:
        self.lines.append(f"{_quote(self._tools.mkdir)} {'-p ' if parents else ''}{_quote(self._at(path))}")

    def _link(self, path: PurePosixPath, target: str) -> None:
        self.lines.append(f"{_quote(self._tools.ln)} -s -- {_quote(target)} {_quote(self._at(path))}")

    def _mount(self, *arguments: str, on_failure: str = "") -> None:
        # -n: otherwise mount(8) would write to the machine's /run/mount.
        self.lines.append(f"{_quote(self._tools.mount)} -n {shlex.join(arguments)}{on_failure}")


def _quote(text: str | Path) -> str:
    return shlex.quote(str(text))
