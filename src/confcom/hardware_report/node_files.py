"""Bounded, read-only access to a node's files; what cannot be read is remembered, with the reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from confcom.device_plugin.discovery.cpuid_instruction import read_cpuid
from confcom.device_plugin.discovery.device_nodes import GROUP_FILE
from confcom.device_plugin.discovery.host import HostFiles
from confcom.sgx.epc_from_cpuid import CpuidRegisters

SMALL_FILE_BYTES = 256 * 1024
MOUNTINFO_BYTES = 8 * 1024 * 1024
PACKAGE_LIST_BYTES = 64 * 1024 * 1024
"""dpkg's status file has 1 to 2 KiB per package."""

_LIMITS = {"/proc/1/mountinfo": MOUNTINFO_BYTES, "/var/lib/dpkg/status": PACKAGE_LIST_BYTES}
_KINDS = (
    (stat.S_ISCHR, "character device"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISFIFO, "FIFO"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path, after links are followed."""

    kind: str
    mode: int
    """Permission bits."""
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class NodeFiles(HostFiles):
    """The node's files below a root, with CPUID as a function."""

    cpuid_function: Callable[[int, int], CpuidRegisters] = read_cpuid
    unread: dict[str, str] = field(default_factory=dict)
    """By path: why something that is there could not be read."""

    def read_text(self, path: str) -> str | None:
        """Return the text of a file, or None if it is not there, cannot be read, or is longer than its limit."""
        limit = _LIMITS.get(path, SMALL_FILE_BYTES)
        data = self._read(path, limit)
        if data is None:
            return None
        if len(data) > limit:
            self.unread[path] = f"longer than {limit} bytes"
            return None
        return data.decode("utf-8", errors="replace")

    def read_beginning(self, path: str, size: int) -> str | None:
        """Return the first bytes of a file as text, or None if it is not there or cannot be read."""
        data = self._read(path, size)
        return None if data is None else data[:size].decode("utf-8", errors="replace")

    def children(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none if it is not there or cannot be read."""
        try:
            return tuple(sorted(os.listdir(self._at(path))))  # noqa: PTH208 # names alone
        except FileNotFoundError:
            return ()
        except OSError as error:
            self._note(path, error)
            return ()

    def exists(self, path: str) -> bool:
        """Return whether something is at the path."""
        return self.entry(path) is not None

    def entry(self, path: str) -> Entry | None:
        """Return what is at a path, or None if nothing is there or it cannot be looked at."""
        try:
            found = self._at(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._note(path, error)
            return None
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "other")
        return Entry(kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        """Return the registers of CPUID."""
        return self.cpuid_function(leaf, subleaf)

    def groups(self) -> dict[int, str]:
        """Return the names of the node's groups by their numbers."""
        lines = (line.split(":") for line in (self.read_text(GROUP_FILE) or "").splitlines())
        return {int(parts[2]): parts[0] for parts in lines if len(parts) >= 3 and parts[2].isdecimal()}

    def path(self, path: str) -> Path:
        """Return where a path of the node is for this process."""
        return self._at(path)

    def _read(self, path: str, limit: int) -> bytes | None:
        try:
            # Without O_NONBLOCK, opening a FIFO without a writer would block forever.
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    self.unread[path] = "not a regular file"
                    return None
                return file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._note(path, error)
            return None

    def _note(self, path: str, error: OSError) -> None:
        self.unread[path] = error.strerror or type(error).__name__
