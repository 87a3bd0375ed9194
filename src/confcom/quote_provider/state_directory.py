"""State directory of a simulated platform: it holds one secret file, which is created once and never replaced.

A single file is either complete or missing, so a platform is never stored in part. In a cluster the same file comes
from a Secret, mounted read-only (and through symbolic links).
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
"""Also the key of the file in a Secret."""

_DIRECTORY_MODE = 0o700
"""The file gives access to all keys of the platform. (The file itself is 0600, the mode that mkstemp uses.)"""

_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""A directory that others can only read or search exposes nothing as long as they have no access to the file."""


@dataclass(frozen=True, slots=True)
class StoredPlatform:
    """A platform, and whether this call created it."""

    platform: SimulatedPlatform
    created: bool


def utc_now() -> datetime:
    """Return the current time; the default clock."""
    return datetime.now(UTC)


def open_platform(state_dir: Path) -> SimulatedPlatform:
    """Load the platform from a state directory.

    Raises:
        UnavailableError: there is none, or it cannot be read.
        PlatformStateError: it is damaged, or written by another version.
    """
    platform = _read(state_dir)
    if platform is None:
        raise UnavailableError(
            f"there is no simulated platform in {state_dir}",
            error_code="no-simulated-platform",
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
    """Load the platform from a state directory, or create one if there is none.

    If several processes start at once, one of them creates the platform, and all return that one.

    Args:
        state_dir: created with mode 0700 if missing.
        clock: gives the creation time of a new platform.
        random_bytes: gives the seed of a new platform.

    Raises:
        UnavailableError: it can neither be read nor created.
        PlatformStateError: the stored platform is damaged; it is left unchanged.
    """
    existing = _read(state_dir)
    if existing is not None:
        return StoredPlatform(existing, created=False)
    platform = SimulatedPlatform.create(random_bytes(SEED_SIZE), clock())
    try:
        state_dir.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        created = _link_new(state_dir, platform.encode())
    except OSError as error:
        raise _unusable(state_dir, "kept in", error) from error
    return StoredPlatform(platform if created else open_platform(state_dir), created)


def exposure(state_dir: Path) -> str | None:
    """Describe the file mode that lets other users of this machine read or replace the stored platform; None if none.

    Callers should only warn, because the mode may be intended. Read-only file systems, such as a mounted Secret's
    volume, are skipped: their modes do not show who has access.
    """
    path = state_dir / STATE_FILE
    if is_read_only(state_dir):
        return None
    try:
        file_mode, directory_mode = path.stat().st_mode, state_dir.stat().st_mode
    except OSError:
        return None
    if file_mode & _GROUP_AND_OTHERS:
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
    """Return whether the stored platform is on a read-only file system, such as a mounted Secret."""
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
        raise _unusable(state_dir, "read from", error) from error
    return SimulatedPlatform.parse(data)


def _read_file(path: Path) -> bytes:
    # O_NONBLOCK: if the path is a FIFO, a daemon must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PlatformStateError(
                f"{path} is not a file",
                error_code="not-a-regular-file",
                why="another object has the name of the simulated platform's file",
                remedy="choose another state directory, or remove that object",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_STATE_SIZE + 1)
    finally:
        os.close(descriptor)


def _refuse_dangling_link(path: Path) -> None:
    if path.is_symlink():
        raise UnavailableError(
            f"{path} is a symbolic link to nothing",
            error_code="dangling-link",
            why="the mounted Secret is incomplete, or its source is gone",
            remedy="check the volume; confcom does not create a platform instead",
        )


def _link_new(state_dir: Path, data: bytes) -> bool:
    """Create the complete file unless it exists; unlike rename(2), link(2) never replaces a file.

    Returns:
        Whether this call created it.
    """
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
        # Some file systems cannot sync a directory; then the durability of the name depends on them.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(state_dir: Path, use: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the simulated platform cannot be {use} {state_dir}",
        error_code="state-directory-unusable",
        why=error.strerror or str(error),
        remedy="choose a state directory that this user may read and write, on a file system with hard links; or mount "
        "a complete one read-only",
    )
