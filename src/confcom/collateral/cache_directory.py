"""The cache's private directory: for each kind of platform a set, when the source is asked again, and a lock."""

import contextlib
import fcntl
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final

from confcom.atomic_file import atomic_file
from confcom.collateral.backoff import MAX_BACKOFF_SIZE, Backoff
from confcom.collateral.fetch_errors import FetchError
from confcom.errors import MalformedError
from confcom.sgx.collateral_json import MAX_JSON_SIZE
from confcom.verify.files import UnreadableInputError, read_regular_file
from confcom.verify.prepared_collateral import Collateral, PreparedCollateral
from confcom.verify.trust import TrustedRoot

MAX_PREPARED: Final = 16
"""Sets in memory: more kinds of platforms than a service meets. Each has at most 14 MiB, with its known keys."""
SAME_SET: Final = timedelta(hours=1)
"""A set that was just served counts as fresh for this time, however old it is: the source has no newer one."""
LOCK_POLL_SECONDS: Final = 0.05
"""flock has no time limit of its own."""
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class CachedSet:
    collateral: Collateral
    prepared: PreparedCollateral
    stamp: tuple[int, int, int]
    """The file's last change, inode and size."""
    served: float
    """When the source served the set; the file's time of modification."""

    def is_fresh(self, now: datetime) -> bool:
        """Return whether no renewal is due."""
        just_served = 0 <= now.timestamp() - self.served < SAME_SET.total_seconds()
        return just_served or self.prepared.documents.is_fresh(now)


class CacheDirectory:
    """Reads and writes the files of one directory, which are untrusted when they are read."""

    def __init__(self, directory: Path, root: TrustedRoot) -> None:
        self.directory = directory
        self.root = root
        self._sets: OrderedDict[Path, CachedSet] = OrderedDict()
        self._backoffs: dict[Path, Backoff] = {}  # those that could not be written
        self._lock = Lock()

    def require_private(self) -> None:
        """Raise FetchError if another user may write the directory; a missing one is made when it is needed."""
        try:
            status = self.directory.stat()
        except OSError:
            return
        if status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE:
            return
        others = "others may write it" if status.st_uid == os.geteuid() else f"it belongs to the user {status.st_uid}"
        raise FetchError(
            f"the cache {self.directory} is not private",
            error_code="cache-not-private",
            why=others,
            remedy="give a directory that does not exist yet, such as one in a volume: it is made with mode 0700",
        )

    def read(self, path: Path, now: datetime, matches: Callable[[Collateral], bool]) -> CachedSet | None:
        try:
            status = path.stat()
            stamp = (status.st_ctime_ns, status.st_ino, status.st_size)
            with self._lock:
                found = self._sets.get(path)
            if found is None or found.stamp != stamp:
                limit = min(2 * status.st_size, MAX_JSON_SIZE)  # a read takes this memory, whatever the file's size
                collateral = Collateral.from_json(read_regular_file(path, limit))
                prepared = collateral.prepared(self.root, now)
                served = status.st_mtime
                found = CachedSet(collateral, prepared, stamp, served) if matches(collateral) else None
        except (OSError, UnreadableInputError, MalformedError):
            found = None
        with self._lock:
            self._sets.pop(path, None)
            if found is None or now >= min(end for _, _, end in found.prepared.documents.validity_periods):
                return None
            self._sets[path] = found
            if len(self._sets) > MAX_PREPARED:
                self._sets.popitem(last=False)
        return found

    def write(self, path: Path, collateral: Collateral, now: datetime) -> None:
        """Write a set that was served now, under the lock of its path, and forget the source's failures."""
        with self._writing():
            with atomic_file(path) as file:
                file.write(collateral.to_json().encode())
            os.utime(path, (int(now.timestamp()),) * 2)  # file systems round times
            _backoff_path(path).unlink(missing_ok=True)
        self._backoffs.pop(path, None)

    def read_backoff(self, path: Path) -> Backoff | None:
        """Return the source's last failure since it answered; None if it has none."""
        known = self._backoffs.get(path)
        try:
            return known or Backoff.decode(read_regular_file(_backoff_path(path), MAX_BACKOFF_SIZE))
        except UnreadableInputError:
            return None

    def write_backoff(self, path: Path, backoff: Backoff) -> None:
        """Write the source's last failure; where that is impossible, this process alone knows it."""
        try:
            with atomic_file(_backoff_path(path)) as file:
                file.write(backoff.encode())
            self._backoffs.pop(path, None)
        except OSError:
            self._backoffs[path] = backoff

    def discard(self, path: Path) -> None:
        self._backoffs.pop(path, None)
        with self._writing():
            for file in (path, _backoff_path(path)):
                file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, path: Path, seconds: float) -> Iterator[None]:
        """Hold the lock of a set between processes. It blocks for at most the given time."""
        with self._writing():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.require_private()
            descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            for _ in range(int(seconds / LOCK_POLL_SECONDS) + 1):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(LOCK_POLL_SECONDS)
            else:
                raise FetchError(
                    f"the cache {self.directory} is being renewed",
                    error_code="cache-busy",
                    why=f"another process has held its lock for {seconds:g} s",
                    remedy="try again; end that process if it hangs",
                )
            yield
        finally:
            # Closing does not suffice: a process that was forked meanwhile has the same lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FetchError(
                f"the cache {self.directory} cannot be written",
                error_code="cache-not-written",
                why=error.strerror or str(error),
                remedy="give a directory that this user may write, on a disk that is not full",
            ) from error


def _backoff_path(path: Path) -> Path:
    return path.with_suffix(".source")
