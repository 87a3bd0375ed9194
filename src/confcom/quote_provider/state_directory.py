"""State directory of a simulated platform: one folder with the simulated root, created once and never replaced.

The files in the folder are named like the keys of a cluster's Secret. The folder is either complete or missing, because
it is renamed into place. In a cluster, the Secret is mounted as this folder, read-only and with symbolic links.
"""

import contextlib
import errno
import os
import secrets
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from confcom.errors import SettingsError, UnavailableError
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import CHECK, CREATED, MAX_VALUE_SIZE, SEED, SEED_SIZE, RootSeed

ROOT_FOLDER = "simulated-root"
"""Name of the folder that holds the root in the state directory."""

_KEYS = (SEED, CREATED, CHECK)
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""Mode bits that expose a directory. Read and search access is harmless if the seed's file is protected."""


@dataclass(frozen=True, slots=True)
class StoredPlatform:
    platform: SimulatedPlatform
    created: bool


def utc_now() -> datetime:
    return datetime.now(UTC)


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the default directory of a user's simulated platform (XDG Base Directory Specification)."""
    state_home = Path(environ.get("XDG_STATE_HOME", ""))
    if not state_home.is_absolute():
        state_home = Path(environ.get("HOME", ""), ".local", "state")
    if not state_home.is_absolute():
        raise SettingsError(
            "the simulated platform has no state directory",
            error_code="no-home-directory",
            why="neither HOME nor XDG_STATE_HOME is set",
            remedy="give --state-dir",
        )
    return state_home / "confcom" / "simulation"


def open_platform(state_dir: Path, node: str = "") -> SimulatedPlatform:
    platform = _read(state_dir, node)
    if platform is None:
        raise UnavailableError(
            f"there is no simulated platform in {state_dir}",
            error_code="no-simulated-platform",
            why=f"it has no folder {ROOT_FOLDER}",
            remedy=f"create one with: confcom simulation create {state_dir}",
        )
    return platform


def open_or_create_platform(
    state_dir: Path,
    *,
    node: str = "",
    clock: Callable[[], datetime] = utc_now,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> StoredPlatform:
    """Load the platform from a state directory, or create one if there is none.

    If several processes start at once, one process creates the platform, and all return it. A missing
    directory is created with mode 0700. A damaged root is left unchanged (RootSeedError).
    """
    existing = _read(state_dir, node)
    if existing is not None:
        return StoredPlatform(existing, created=False)
    root = RootSeed(random_bytes(SEED_SIZE), int(clock().timestamp()))
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        created = _place(state_dir, root)
    except OSError as error:
        raise _unusable(state_dir, "kept in", error) from error
    return StoredPlatform(SimulatedPlatform.of_root(root, node) if created else open_platform(state_dir, node), created)


def exposure(state_dir: Path) -> str | None:
    """Describe a file mode that lets other users of this machine read or replace the root; else return None.

    Callers should only warn, because the mode may be intended. Read-only file systems, such as a mounted Secret's
    volume, are skipped: their modes do not show who has access.
    """
    folder = state_dir / ROOT_FOLDER
    if is_read_only(state_dir):
        return None
    for path, forbidden, harm, closed in (
        (folder / SEED, _GROUP_AND_OTHERS, "use it to forge this platform's quotes", "600"),
        (folder, _WRITABLE_BY_OTHERS, "replace the platform in it", "700"),
        (state_dir, _WRITABLE_BY_OTHERS, "replace the platform in it", "700"),
    ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            return None
        if mode & forbidden:
            remedy = f"chmod {closed} {shlex.quote(str(path))}"
            return f"{path} has mode {mode:04o}: other users can {harm}; to close it: {remedy}"
    return None


def is_read_only(state_dir: Path) -> bool:
    """Return whether the stored root is on a read-only file system, such as that of a mounted Secret."""
    try:
        return bool(os.statvfs(state_dir / ROOT_FOLDER).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _read(state_dir: Path, node: str) -> SimulatedPlatform | None:
    folder = state_dir / ROOT_FOLDER
    try:
        values = _read_values(folder)
        if len(values) < len(_KEYS):
            if not os.path.lexists(folder):
                return None
            values = _read_values(folder)  # another process may have created the folder between two reads
    except OSError as error:
        raise _unusable(state_dir, "read from", error) from error
    return SimulatedPlatform.of_root(RootSeed.decode(values), node)


def _read_values(folder: Path) -> dict[str, bytes]:
    values = {}
    for name in _KEYS:
        # O_NONBLOCK: if the path is a FIFO, a daemon must not wait for a writer.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                values[name] = file.read(MAX_VALUE_SIZE + 1)
    return values


def _place(state_dir: Path, root: RootSeed) -> bool:
    """Create the complete folder; return False if it exists, as rename(2) replaces only empty folders."""
    new = Path(tempfile.mkdtemp(prefix=f".{ROOT_FOLDER}.", dir=state_dir))
    try:
        for name, value in root.encode().items():
            descriptor = os.open(new / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(descriptor)
        _sync_directory(new)
        new.rename(state_dir / ROOT_FOLDER)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            return False
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _sync_directory(state_dir)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Some file systems cannot sync a directory; then the file system determines when the name is durable.
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


def _unusable(state_dir: Path, use: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the simulated platform cannot be {use} {state_dir}",
        error_code="state-directory-unusable",
        why=error.strerror or str(error),
        remedy="choose a state directory that this user may read and write; or mount a complete one read-only",
    )
