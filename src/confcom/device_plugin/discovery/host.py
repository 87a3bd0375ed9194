"""Read-only access to the host, for discovery."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from confcom.device_plugin.discovery.cpuid_instruction import read_cpuid
from confcom.sgx.epc_from_cpuid import CpuidRegisters


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The part of a file's status that matters for a device node."""

    character_device: bool
    mode: int  # permission bits
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The host's files below a root: `/`, or the host's file system as mounted in a container, or the demo's.

    Paths are absolute, as on the host. CPUID is independent of the root.
    """

    root: Path

    def read_text(self, path: str) -> str | None:
        """Return the text of a small file, or None if it cannot be read."""
        try:
            return self._at(path).read_text(encoding="ascii", errors="replace")
        except OSError:
            return None

    def children(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none if it cannot be read."""
        try:
            return tuple(sorted(child.name for child in self._at(path).iterdir()))
        except OSError:
            return ()

    def exists(self, path: str) -> bool:
        """Return whether something is at the path."""
        return self._at(path).exists()

    def status(self, path: str) -> FileStatus | None:
        """Return the status of the file at the path, or None if there is none or it cannot be read."""
        try:
            found = self._at(path).stat()
        except OSError:
            return None
        return FileStatus(stat.S_ISCHR(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        """Return the registers of CPUID."""
        return read_cpuid(leaf, subleaf)

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")
