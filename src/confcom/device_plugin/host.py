"""How discovery looks at the host: four read-only questions, so that decisions can be tried on any fixture."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class HostReader(Protocol):
    """Read-only questions about the host's files; paths are absolute, as on the host."""

    def read_text(self, path: str) -> str | None:
        """A small file's text, or None if it cannot be read."""

    def children(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted; none if it is not there."""

    def exists(self, path: str) -> bool:
        """Whether there is anything at the path."""

    def is_character_device(self, path: str) -> bool:
        """Whether there is a character device at the path."""


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The host's files below a root: `/`, or where a container or a playground has the host's file system."""

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

    def is_character_device(self, path: str) -> bool:
        """Whether there is a character device at the path."""
        try:
            return stat.S_ISCHR(self._at(path).stat().st_mode)
        except OSError:
            return False

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")
