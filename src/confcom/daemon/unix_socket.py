"""Listening unix sockets that neither take another program's place nor delete what is not theirs.

Intel's AESM unlinks the path by name at start and at stop, so that an old instance that ends deletes its successor's
socket. Here a path is bound only if nothing lives there, appears only when it already listens, with its final mode,
and is removed only by the one that made it.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from confcom.errors import SettingsError, UnavailableError

MAX_PATH_BYTES = 99
"""sun_path holds 108 bytes with its final zero (unix(7)); the temporary name beside the path is 8 longer."""
LIVE_TEST_SECONDS = 1.0
"""connect() on a unix socket is answered by the kernel at once or waits for a full backlog, and that is life too."""
_ATTEMPTS = 3
"""Another starter may bind or remove the path between our look and our step; then look again."""
_TEMPORARY_BYTES = 3
"""Random bytes in the temporary name `.NAME.xxxxxx`, which `ss -xl` goes on showing: it must be told apart from others'
for an instant, and be recognised by people."""


class PathState(Enum):
    """What is at a path where a socket is to be."""

    FREE = "nothing"
    STALE = "a socket on which nobody listens"
    LIVE = "a socket on which a program listens"
    OTHER = "something that is not a stream socket"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Tells one file from a later one at the same path; an inode number alone may be used again."""

    device: int
    inode: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity | None:
        """The identity of what is at the path now, or None if there is nothing, or nothing that we may see."""
        try:
            status = path.lstat()
        except OSError:
            return None
        return cls(status.st_dev, status.st_ino, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class BoundUnixSocket:
    """A listening socket and the path entry that belongs to it."""

    socket: socket.socket
    path: Path
    identity: FileIdentity

    def owns_path(self) -> bool:
        """Whether the path still leads to this socket."""
        return FileIdentity.of(self.path) == self.identity

    def unlink(self) -> bool:
        """Remove the path if it is ours; say whether it was."""
        if not self.owns_path():
            return False
        self.path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Remove the path if it is ours, and close the socket. May be called twice."""
        self.unlink()
        self.socket.close()


def inspect_path(path: Path) -> PathState:
    """Look at what is there; a socket is tried with a connect that sends nothing.

    Raises:
        UnavailableError: it may not be looked at.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return PathState.FREE
    except OSError as error:
        raise _unusable(path, error) from error
    if not stat.S_ISSOCK(mode):
        return PathState.OTHER
    return _try_connecting(path)


def bind_unix_socket(path: Path, *, mode: int, backlog: int, directory_mode: int | None = None) -> BoundUnixSocket:
    """Listen at `path`: with its final mode and already accepting when the path appears.

    Args:
        path: where; at most MAX_PATH_BYTES long.
        mode: permission bits of the socket. Connecting needs write permission (unix(7)).
        backlog: connections that the kernel holds until they are accepted; cut to net.core.somaxconn.
        directory_mode: make missing directories with this mode; None: a missing directory is an error.

    Raises:
        SettingsError: the path cannot be a socket's.
        UnavailableError: another program serves there, or the directory cannot be used.
    """
    _require_usable(path)
    for _ in range(_ATTEMPTS):
        before = FileIdentity.of(path)
        state = inspect_path(path)
        if state is PathState.LIVE:
            raise UnavailableError(
                f"{path} is already served by another program",
                why="a connection to it was accepted, and a live socket is never replaced",
                remedy="end that program (`ss -xlp` names it), or give another path",
            )
        if state is PathState.OTHER:
            raise SettingsError(
                f"{path} cannot be replaced by a socket",
                why=f"there is {_describe(path)}, and only stale sockets are replaced",
                remedy="remove it if it is not needed, or give another path",
            )
        try:
            if directory_mode is not None:
                _make_directory(path.parent, directory_mode)
            if state is PathState.STALE and before == FileIdentity.of(path):
                path.unlink(missing_ok=True)
            return _listen(path, mode=mode, backlog=backlog)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unusable(path, error) from error
    raise UnavailableError(
        f"{path} could not be bound",
        why="another program keeps making a socket there at the same time",
        remedy="start one program per path",
    )


def _try_connecting(path: Path) -> PathState:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(LIVE_TEST_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return PathState.STALE
        except FileNotFoundError:
            return PathState.FREE
        except (BlockingIOError, TimeoutError):
            return PathState.LIVE
        except PermissionError as error:
            raise _unusable(path, error) from error
        except OSError:
            return PathState.OTHER
    return PathState.LIVE


def _listen(path: Path, *, mode: int, backlog: int) -> BoundUnixSocket:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_TEMPORARY_BYTES)}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(temporary))
        try:
            temporary.chmod(mode)
            listener.listen(backlog)
            listener.setblocking(False)
            path.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)
        identity = FileIdentity.of(path)
        if identity is None:
            raise FileExistsError(os.fspath(path))
    except BaseException:
        listener.close()
        raise
    return BoundUnixSocket(listener, path, identity)


def _make_directory(directory: Path, mode: int) -> None:
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(directory)) from error
    directory.chmod(mode)


def _require_usable(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise SettingsError(
            f"the socket path is {size} bytes long: {path}",
            why=f"the kernel holds 108 bytes for it, and at most {MAX_PATH_BYTES} are used here",
            remedy="give a shorter path",
        )
    if not path.name:
        raise SettingsError(f"{path} does not name a socket", remedy="give a path that ends in a file name")


def _describe(path: Path) -> str:
    return "a directory" if path.is_dir() else "a file that is no stream socket"


def _unusable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} cannot be bound",
        why=f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else ""),
        remedy="make its directory exist and writable for this user, or give another path",
    )
