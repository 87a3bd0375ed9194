"""Where a simulated platform is kept: one secret file in a directory, made once and never replaced.

One file, because then there is no half of a platform: it is there with all that belongs to it, or it is not there.
In a cluster the same file comes from a Secret, mounted read-only (and through symbolic links).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from confcom.errors import UnavailableError
from confcom.simulation.keys import SEED_SIZE
from confcom.simulation.platform import MAX_STATE_SIZE, PlatformStateError, SimulatedPlatform

STATE_FILE = "platform.json"
"""Also the key of the Secret that carries it."""

_DIRECTORY_MODE = 0o700
"""The file is as good as all keys of the platform. (The file itself is 0600: mkstemp makes nothing wider.)"""

_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""A directory that others can only read or enter exposes nothing as long as the file is closed."""


@dataclass(frozen=True, slots=True)
class StoredPlatform:
    """A platform, and whether this call made it."""

    platform: SimulatedPlatform
    created: bool


def utc_now() -> datetime:
    """The clock used where none is injected."""
    return datetime.now(UTC)


def open_platform(state_dir: Path) -> SimulatedPlatform:
    """Read the platform that is kept in a directory.

    Raises:
        UnavailableError: there is none, or it may not be read.
        PlatformStateError: it is damaged, or written by another version.
    """
    platform = _read(state_dir)
    if platform is None:
        raise UnavailableError(
            f"there is no simulated platform in {state_dir}",
            why=f"it has no file {STATE_FILE}",
            remedy=f"create one with: confcom simulation create {state_dir}",
        )
    return platform


def open_or_create_platform(
    state_dir: Path,
    *,
    clock: Callable[[], datetime] = utc_now,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> StoredPlatform:
    """Read the platform that is kept in a directory, or make one if there is none.

    Of several processes that start at once, one makes the platform and all get that one.

    Args:
        state_dir: made with mode 0700 if missing.
        clock: when it is made, if it is made.
        random_bytes: its seed, if it is made.

    Raises:
        UnavailableError: it can neither be read nor made.
        PlatformStateError: what is there is damaged; it is left as it is.
    """
    existing = _read(state_dir)
    if existing is not None:
        return StoredPlatform(existing, created=False)
    platform = SimulatedPlatform.create(random_bytes(SEED_SIZE), clock())
    try:
        state_dir.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        created = _link_new(state_dir, platform.encode())
    except OSError as error:
        raise _unusable(state_dir, "no simulated platform can be kept in", error) from error
    return (
        StoredPlatform(platform, created=True) if created else StoredPlatform(open_platform(state_dir), created=False)
    )


def exposure(state_dir: Path) -> str | None:
    """What lets other users of this machine read or replace the platform that is kept here, in words; or None.

    Only worth a warning: it may be meant. A read-only file system, such as a mounted Secret's volume, has modes that
    say nothing about who gets there, and is passed over.
    """
    path = state_dir / STATE_FILE
    if is_read_only(state_dir):
        return None
    try:
        file_mode, directory_mode = path.stat().st_mode, state_dir.stat().st_mode
    except OSError:
        return None
    if file_mode & _OF_OTHERS:
        return (
            f"{path} has mode {stat.S_IMODE(file_mode):04o}: other users can read or change it, and forge this "
            f"platform's quotes; to close it: chmod 600 {shlex.quote(str(path))}"
        )
    if directory_mode & _WRITABLE_BY_OTHERS:
        return (
            f"{state_dir} has mode {stat.S_IMODE(directory_mode):04o}: other users can replace the platform in it; "
            f"to close it: chmod 700 {shlex.quote(str(state_dir))}"
        )
    return None


def is_read_only(state_dir: Path) -> bool:
    """Whether the platform that is kept here lies on a read-only file system, as a mounted Secret does."""
    try:
        return bool(os.statvfs(state_dir / STATE_FILE).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _read(state_dir: Path) -> SimulatedPlatform | None:
    path = state_dir / STATE_FILE
    try:
        data = _read_file(path)
    except FileNotFoundError:
        _refuse_dangling_link(path)
        return None
    except OSError as error:
        raise _unusable(state_dir, "the simulated platform cannot be read from", error) from error
    return SimulatedPlatform.parse(data)


def _read_file(path: Path) -> bytes:
    # O_NONBLOCK: a FIFO in its place must not make a daemon wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PlatformStateError(
                f"{path} is not a file",
                why="something else stands where the simulated platform is kept",
                remedy="choose another state directory, or take away what stands there",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_STATE_SIZE + 1)
    finally:
        os.close(descriptor)


def _refuse_dangling_link(path: Path) -> None:
    if path.is_symlink():
        raise UnavailableError(
            f"{path} is a symbolic link to nothing",
            why="a mounted Secret that is not complete, or whose source is gone",
            remedy="check the volume; a platform is not made in its place",
        )


def _link_new(state_dir: Path, data: bytes) -> bool:
    """Put a complete file at its name if nothing is there; link(2) never replaces, unlike rename(2)."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{STATE_FILE}.", dir=state_dir)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, state_dir / STATE_FILE)
        except FileExistsError:
            return False
    finally:
        Path(temporary).unlink()
    _sync_directory(state_dir)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some file systems cannot sync a directory; then the name is as durable as they make it.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(state_dir: Path, what: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{what} {state_dir}",
        why=error.strerror or str(error),
        remedy="choose a state directory that this user may read and write, on a file system with hard links; or mount "
        "a complete one read-only",
    )
