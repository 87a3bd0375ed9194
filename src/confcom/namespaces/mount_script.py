"""A shell script that rebuilds directories of the machine, such as /run and /dev, on a tmpfs, entry by entry."""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST_DEVICE = "/dev/null"
"""The only device that containers can get. At SGX's paths, this device is the simulated enclave device."""

DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")
"""The devices that the OCI runtime specification gives every container; they are bound from the machine."""

DEV, PROC = Path("/dev"), Path("/proc")
_DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
AESMD = "aesmd"
"""The folder of the machine's own aesmd, which is hidden: quotes must come from the simulated quote helper."""
_LOCKED_FLAGS = {os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
"""Mount flags that the kernel locks (mount_namespaces(7)); a remount in a user namespace must repeat them."""


def run_directories() -> list[Path]:
    """Return /run and /var/run, with links resolved: one directory on almost all machines."""
    return [Path(path) for path in dict.fromkeys(map(os.path.realpath, ("/run", "/var/run")))]


@dataclass(frozen=True, slots=True)
class Bind:
    source: Path
    container_path: str
    read_only: bool = False


class MountScript:
    def __init__(self, tools: Mapping[str, str], root: Path) -> None:
        self.lines: list[str] = []
        self._tools = tools
        self._root = root

    def copy_directory(self, directory: Path, *, without: Collection[str]) -> None:
        self._tmpfs(directory)
        names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        # Bind the directory that contains the new root first; later, it would contain the mounts made so far.
        names.sort(key=lambda name: directory / name not in self._root.parents)
        self._copy([directory / name for name in names if name not in without])

    def proc(self) -> None:
        self._run("mkdir", "-p", self._at(PROC))
        new = self._mount("-t", "proc", "proc", self._at(PROC))
        # If parts of /proc are hidden (as in containers), the kernel refuses to mount a complete /proc.
        self.lines.append(f"{new} 2>/dev/null || {self._mount('--rbind', '/proc', self._at(PROC))}")

    def dev(self) -> None:
        # The mode must be 755: in a world-writable, sticky directory, open(O_CREAT) fails on a device node.
        self._tmpfs(DEV)
        self._copy([path for name in DEVICE_NODES if (path := DEV / name).exists()])
        for name, target in _DEV_LINKS.items():
            self._run("ln", "-s", target, self._at(DEV / name))
        self._tmpfs(DEV / "shm", mode="1777")

    def bind(self, bind: Bind) -> None:
        """Add one mount, at the path with links resolved, such as /run/aesmd for /var/run/aesmd."""
        target = Path(os.path.realpath(bind.container_path))
        if bind.source.is_dir():
            self._run("mkdir", "-p", self._at(target))
        else:
            self._run("mkdir", "-p", self._at(target.parent))
            self.lines.append(f": >> {shlex.quote(self._at(target))}")
        self.lines.append(self._mount("--bind", str(bind.source), self._at(target)))
        if bind.read_only:
            locked = os.statvfs(bind.source).f_flag
            flags = [name for flag, name in _LOCKED_FLAGS.items() if locked & flag]
            options = ",".join(["remount", "bind", "ro", *flags])
            self.lines.append(self._mount("-o", options, self._at(target)))

    def move(self, directory: Path) -> None:
        """Show a rebuilt directory in place of the machine's."""
        self.lines.append(self._mount("--move", self._at(directory), str(directory)))

    def _copy(self, paths: Sequence[Path]) -> None:
        """Show files and directories of the machine at the same paths; show an empty one if its mount fails."""
        table: list[str] = []
        folders: list[str] = []
        for path in paths:
            if path.is_symlink():
                self._run("ln", "-s", "--", str(path.readlink()), self._at(path))
                continue
            folder = path.is_dir()
            if folder:
                folders.append(self._at(path))
            else:
                self.lines.append(f": > {shlex.quote(self._at(path))}")
            table.append(f"{_fstab(str(path))} {_fstab(self._at(path))} none {'rbind' if folder else 'bind'} 0 0")
        if folders:
            self._run("mkdir", "-p", *folders)
        # One mount(8) for all: a process for each of the hundred entries of /dev would take 0.3 s.
        if table:
            file = str(self._root.with_suffix(".fstab"))
            self.lines.append(f"printf '%s\\n' {shlex.join(table)} > {shlex.quote(file)}")
            self.lines.append(f"{self._mount('-a', '-T', file)} || :")

    def _tmpfs(self, path: Path, mode: str = "755") -> None:
        self._run("mkdir", "-p", self._at(path))
        self.lines.append(self._mount("-t", "tmpfs", "-o", f"mode={mode}", "confcom", self._at(path)))

    def _at(self, path: Path) -> str:
        return str(self._root.joinpath(*path.parts[1:]))

    def _mount(self, *arguments: str) -> str:
        # -n keeps mount(8) from writing to the machine's /run/mount.
        return shlex.join([self._tools["mount"], "-n", *arguments])

    def _run(self, tool: str, *arguments: str) -> None:
        self.lines.append(shlex.join([self._tools[tool], *arguments]))


def _fstab(path: str) -> str:
    """Escape a path as fstab(5) demands."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in path)
