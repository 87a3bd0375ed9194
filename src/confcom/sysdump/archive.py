"""The content of the dump's archive: named texts within limits, and what was not read. Pure."""

import gzip
import io
import re
import tarfile
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

MAX_FILE: Final = 2 << 20
"""Bytes of a log or of a page; the last 2 MiB of a daemon's log are at least ten minutes with the most lines."""
MAX_BYTES: Final = 50 << 20
"""Bytes of all files before compression: what issue trackers and mail servers accept, and what stays in memory."""
NOT_READ: Final = "not-read.txt"
_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9._:/-]|(?<![^/])\.+(?![^/])")
"""Characters that a file's name does not have here, and parts of a path such as `..`."""


@dataclass(frozen=True, slots=True)
class Archive:
    files: dict[str, bytes] = field(default_factory=dict)
    not_read: list[str] = field(default_factory=list)

    @property
    def free(self) -> int:
        return MAX_BYTES - sum(map(len, self.files.values()))

    def add(self, name: str, content: str) -> None:
        data = content.encode("utf-8", "replace")
        if len(data) > self.free:
            self.leave_out(f"{name}: the dump would be larger than {MAX_BYTES >> 20} MiB")
        else:
            self.files[_UNUSUAL.sub("_", name)] = data

    def leave_out(self, line: str) -> None:
        self.not_read.append(" ".join(line.split()))

    def packed(self, folder: str, made: datetime) -> bytes:
        """Return a tar.gz whose files are in `folder`; files with the same content and time give the same bytes."""
        told = "\n".join(self.not_read) or "everything was read"
        packed, when = io.BytesIO(), int(made.timestamp())
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=when) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name, data in {**self.files, NOT_READ: f"{told}\n".encode()}.items():
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), when, 0o600
                archive.addfile(entry, io.BytesIO(data))
        return packed.getvalue()
