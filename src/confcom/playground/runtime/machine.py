"""This machine's file system, as the generator of root file systems reads it, and the programs that containers need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

_FLAGS = {os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}


class Kind(Enum):
    """The kind of a path; everything that is neither a directory nor a link is mounted like a file."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths of the script's programs, since the script cannot rely on PATH, also inside the container."""

    mount: str
    chroot: str
    env: str
    sh: str
    mkdir: str
    ln: str


class Machine:
    """Read access to the file system."""

    def kind(self, path: PurePosixPath) -> Kind:
        """Return the kind of a path, without following links."""
        real = Path(path)
        try:
            if real.is_symlink():
                return Kind.LINK
            if real.is_dir():
                return Kind.DIRECTORY
            return Kind.FILE if real.exists() else Kind.MISSING
        except OSError:
            return Kind.MISSING

    def entries(self, path: PurePosixPath) -> Sequence[str]:
        """Return the names in a directory; none if it cannot be read."""
        try:
            return sorted(entry.name for entry in Path(path).iterdir())
        except OSError:
            return ()

    def link_target(self, path: PurePosixPath) -> str:
        """Return the target of a symbolic link."""
        return str(Path(path).readlink())

    def mount_flags(self, path: Path) -> Sequence[str]:
        """Return the flags that a remount in a user namespace must repeat: the kernel locks them.

        See mount_namespaces(7).
        """
        try:
            flags = os.statvfs(path).f_flag
        except OSError:
            return ()
        return tuple(name for flag, name in _FLAGS.items() if flags & flag)


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths of the programs that create containers; None for a missing program."""

    setpriv: str | None
    unshare: str | None
    tools: Tools | None

    @classmethod
    def find(cls) -> Programs:
        """Find them in PATH, and in the usual directories even if PATH lacks these."""
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        names = ("mount", "chroot", "env", "sh", "mkdir", "ln")
        found = {name: shutil.which(name, path=search) for name in names}
        complete = {name: path for name, path in found.items() if path is not None}
        return cls(
            setpriv=shutil.which("setpriv", path=search),
            unshare=shutil.which("unshare", path=search),
            tools=Tools(**complete) if len(complete) == len(names) else None,
        )
