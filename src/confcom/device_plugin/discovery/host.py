"""How discovery looks at the host: five read-only questions, so that decisions can be tried on any fixture."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from confcom.device_plugin.discovery.cpuid import read_cpuid
from confcom.sgx.epc import CpuidRegisters


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What stat says of a file, as far as it matters for a device node."""

    character_device: bool
    mode: int
    """Permission bits, such as 0o660."""
    uid: int
    gid: int


class HostReader(Protocol):
    """Read-only questions about the host; paths are absolute, as on the host."""

    def read_text(self, path: str) -> str | None:
        """A small file's text, or None if it cannot be read."""

    def children(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted; none if it is not there."""

    def exists(self, path: str) -> bool:
        """Whether there is anything at the path."""

    def status(self, path: str) -> FileStatus | None:
        """What is at the path, or None if nothing is, or it may not be looked at."""

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        """What the processor answers.

        Raises:
            UnavailableError: it cannot be asked, with the reason.
        """


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The host's files below a root: `/`, or where a container or a playground has the host's file system.

    The processor is the same below every root.
    """

    root: Path

    def read_text(self, path: str) -> str | None:
        """A small file's text, or None if it cannot be read."""
        try:
            return self._at(path).read_text(encoding="ascii", errors="replace")
        except OSError:
            return None

    def children(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted; none if it is not there."""
        try:
            return tuple(sorted(child.name for child in self._at(path).iterdir()))
        except OSError:
            return ()

    def exists(self, path: str) -> bool:
        """Whether there is anything at the path."""
        return self._at(path).exists()

    def status(self, path: str) -> FileStatus | None:
        """What is at the path, or None if nothing is, or it may not be looked at."""
        try:
            found = self._at(path).stat()
        except OSError:
            return None
        return FileStatus(stat.S_ISCHR(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        """What the processor answers."""
        return read_cpuid(leaf, subleaf)

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")
