"""Bounded, read-only access to a node's files; a file that cannot be read is noted, with the reason."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from confcom.device_plugin.discovery.host import HostFiles

SMALL_FILE_BYTES = 256 * 1024
_LIMITS = {
    "/proc/cpuinfo": 16 * 1024 * 1024,  # under 4 KiB for each of at most 4,096 processors
    "/var/lib/dpkg/status": 64 * 1024 * 1024,  # 1 to 2 KiB for each package
}


@dataclass(frozen=True, slots=True)
class NodeFiles(HostFiles):
    """The node's files below a root."""

    unread: dict[str, str] = field(default_factory=dict)
    """By path of a file that exists: why it could not be read."""

    def read_text(self, path: str) -> str | None:
        """Return the text of a file, or None if it does not exist, cannot be read, or is longer than its limit."""
        limit = _LIMITS.get(path, SMALL_FILE_BYTES)
        try:
            # Without O_NONBLOCK, opening a FIFO without a writer would block forever.
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    self.unread[path] = "not a regular file"
                    return None
                data = file.read(limit + 1)
        except OSError as error:
            self._note(path, error)
            return None
        if len(data) > limit:
            self.unread[path] = f"longer than {limit} bytes"
            return None
        return data.decode("utf-8", errors="replace")

    def children(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none if it does not exist or cannot be read."""
        try:
            return tuple(sorted(os.listdir(self._at(path))))  # noqa: PTH208 # names alone
        except OSError as error:
            self._note(path, error)
            return ()

    def exists(self, path: str) -> bool:
        """Return whether something is at the path."""
        return self.stat(path) is not None

    def stat(self, path: str) -> os.stat_result | None:
        """Return the status of the entry at a path, links followed, or None if it does not exist or is inaccessible."""
        try:
            return self._at(path).stat()
        except OSError as error:
            self._note(path, error)
            return None

    def _note(self, path: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.unread[path] = error.strerror or type(error).__name__
