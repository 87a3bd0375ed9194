"""An append-only file of lines with a size limit: a full file is renamed to `NAME.1`, and a new one is started.

So the newest lines are kept, the oldest are lost, and both files together never exceed twice the limit. Several
processes may append to one file, as two helpers do during an update: each line is whole, and each process notices when
another one, or a tool such as logrotate, has renamed the file. A line that was cut, because the disk became full or a
process died while writing, is ended by a line feed before the next one; readers skip lines that are not JSON.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from confcom.errors import OutputError

MIB: Final = 1024 * 1024
DEFAULT_MAX_MIB: Final = 64
"""About 200,000 records, and as many again in `NAME.1`."""
MAX_MAX_MIB: Final = 65_536
"""Two files of 64 GiB; a node's disk is needed for other things."""
FILE_MODE: Final = 0o600
"""Only the helper's user may read which peer attests what. An existing file keeps its mode, so it can be shared."""

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NOFOLLOW: a symbolic link could point to any file of the helper. O_NONBLOCK: a pipe without a reader would block
(fifo(7))."""


class AuditFile:
    """Appends lines to the file. Its methods may block; they must be called from one thread.

    Args:
        path: the file; created when the first line is written.
        max_bytes: the size limit.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor: int | None = None

    def append(self, lines: Sequence[bytes]) -> int:
        """Append lines, each with its line feed.

        Returns:
            How many of the first lines were written whole: all, or fewer if the disk became full meanwhile.

        Raises:
            OutputError: nothing could be written.
        """
        data = b"".join(lines)
        try:
            descriptor = self._descriptor_for(len(data))
            if not _ends_with_line_feed(descriptor):
                data = b"\n" + data
                return _write(descriptor, data) - 1
            return _write(descriptor, data)
        except OSError as error:
            raise OutputError(
                f"the audit file {self._path} cannot be written",
                error_code="audit-file-not-writable",
                why=error.strerror or str(error),
                remedy="free disk space, or give the helper a regular file and a directory that it may write to",
            ) from error

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _descriptor_for(self, size: int) -> int:
        """Return a descriptor of the file at the path: one with room for `size` bytes, empty, or in rotation."""
        if self._descriptor is not None and not self._is_at_path(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._descriptor = self._open()
        used = os.fstat(self._descriptor).st_size
        if used and used + size > self._max_bytes and self._rotate(self._descriptor):
            self.close()
            self._descriptor = self._open()
        return self._descriptor

    def _open(self) -> int:
        descriptor = os.open(self._path, _FLAGS, FILE_MODE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file")
        return descriptor

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.lstat())
        except FileNotFoundError:
            return False

    def _rotate(self, descriptor: int) -> bool:
        """Rename the full file; return False if another process is doing so."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if self._is_at_path(descriptor):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        return True


def _ends_with_line_feed(descriptor: int) -> bool:
    """Return whether the file ends with a whole line: not if a process died while writing, or the disk was full."""
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _write(descriptor: int, data: bytes) -> int:
    """Write as much as possible.

    Returns:
        How many line feeds were written, at least one.

    Raises:
        OSError: no line feed was written.
    """
    view = memoryview(data)
    done = 0
    while done < len(data):
        try:
            done += os.write(descriptor, view[done:])
        except OSError:
            lines = data[:done].count(b"\n")
            if lines:
                return lines
            raise
    return data.count(b"\n")
