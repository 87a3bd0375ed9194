"""Listening unix sockets that neither take another program's place nor delete what is not theirs.

Intel's AESM unlinks the path by name at start and at stop, so that an old instance that ends deletes its successor's
socket. Here a path is bound only if nothing lives there, appears only when it already listens, with its final mode,
and is removed only by the one that made it.

A socket is bound under a temporary name beside its path, and then given the path by link(2), which never replaces, or
by rename(2), which replaces at once: no client ever finds the path missing. The kernel goes on telling the temporary
name to every client (getpeername(2)), which is how programs of one kind recognise each other's sockets.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from confcom.errors import SettingsError, UnavailableError

SUN_PATH_BYTES = 107
"""sun_path holds 108 bytes with its final zero (unix(7))."""
_TEMPORARY_BYTES = 3
"""Random bytes in the temporary name `.NAME.xxxxxx`, which `ss -xl` goes on showing: it must be told apart from others'
for an instant, and be recognised by people."""
MAX_PATH_BYTES = SUN_PATH_BYTES - 2 - 2 * _TEMPORARY_BYTES
"""What a path may have so that the temporary name beside it fits too."""
_ATTEMPTS = 3
"""Another starter may bind or remove the path between our look and our step; then look again."""
_TIMEVAL = struct.Struct("@qq")
"""struct timeval of 64-bit Linux, for SO_SNDTIMEO."""
_UCRED = struct.Struct("@iII")
"""struct ucred (unix(7)): pid, uid, gid."""


class PathState(Enum):
    """What is at a path where a socket is to be."""

    FREE = "nothing"
    STALE = "a socket on which nobody listens"
    LIVE = "a socket on which a program listens"
    OTHER = "something that is not a stream socket"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Tells a socket's file from others at the same path.

    Only while the socket is open: the kernel then holds the inode, and its number is not used again. Times would not do
    beside it, because link(2), rename(2) and chmod(2) change them.
    """

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity | None:
        """The identity of what is at the path now, or None if there is nothing, or nothing that we may see."""
        try:
            status = path.lstat()
        except OSError:
            return None
        return cls(status.st_dev, status.st_ino)


@dataclass(frozen=True, slots=True)
class SocketHolder:
    """Whose socket is at a path, as the kernel tells a client. It is no authentication: any name can be bound."""

    bound_name: str
    """The name that its program bound it to, which another one may have replaced since; empty if it has none."""
    uid: int
    """Of the program when it began to listen, in our user namespace."""


@dataclass(frozen=True, slots=True)
class PathInspection:
    """What is at a path, and whose it is if it lives and says so."""

    state: PathState
    holder: SocketHolder | None = None
    """None although it lives: its backlog is full, or it may not be connected to."""


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
        """Remove the path if it is ours; say whether it was. The socket must still be open."""
        if not self.owns_path():
            return False
        self.path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Remove the path if it is ours, and close the socket. May be called twice."""
        if self.socket.fileno() >= 0:
            self.unlink()
            self.socket.close()


def inspect_path(path: Path) -> PathState:
    """Look at what is there; a socket is tried with a connect that sends nothing and waits for nothing.

    Raises:
        UnavailableError: it may not be looked at.
    """
    return inspect_socket(path, patience=0).state


def inspect_socket(path: Path, *, patience: float) -> PathInspection:
    """Look at what is there, and whose it is.

    Args:
        path: where.
        patience: seconds to wait for a place in a full backlog; without one, its program is not told.

    Raises:
        UnavailableError: it may not be looked at.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return PathInspection(PathState.FREE)
    except OSError as error:
        raise unusable(path, error) from error
    if not stat.S_ISSOCK(mode):
        return PathInspection(PathState.OTHER)
    return _try_connecting(path, patience)


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
    require_usable_path(path, MAX_PATH_BYTES)
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
            raise not_a_socket(path)
        try:
            if directory_mode is not None:
                make_directory(path.parent, directory_mode)
            if state is PathState.STALE and before == FileIdentity.of(path):
                path.unlink(missing_ok=True)
            return link_socket(path, tag=secrets.token_hex(_TEMPORARY_BYTES), mode=mode, backlog=backlog)
        except FileExistsError:
            continue
        except OSError as error:
            raise unusable(path, error) from error
    raise UnavailableError(
        f"{path} could not be bound",
        why="another program keeps making a socket there at the same time",
        remedy="start one program per path",
    )


def link_socket(path: Path, *, tag: str, mode: int, backlog: int) -> BoundUnixSocket:
    """Listen, and give the socket a path at which there is nothing.

    Args:
        path: where.
        tag: makes the temporary name, `.NAME.TAG`, unlike any other's.
        mode: permission bits of the socket.
        backlog: cut to net.core.somaxconn.

    Raises:
        FileExistsError: there is something.
        OSError: it cannot be done.
    """
    return _listen(path, tag, mode, backlog, replace=False)


def replace_socket(path: Path, *, tag: str, mode: int, backlog: int) -> BoundUnixSocket:
    """Listen, and give the socket its path, whatever is there: who connects meets the one or the other.

    Args:
        path: where.
        tag: makes the temporary name, `.NAME.TAG`, unlike any other's.
        mode: permission bits of the socket.
        backlog: cut to net.core.somaxconn.

    Raises:
        OSError: it cannot be done.
    """
    return _listen(path, tag, mode, backlog, replace=True)


def make_directory(directory: Path, mode: int) -> None:
    """Make a directory and those above it unless they are there; what is there stays as it is.

    Raises:
        NotADirectoryError: something else is there.
        OSError: it cannot be done.
    """
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(directory)) from error
    directory.chmod(mode)


def require_usable_path(path: Path, most: int) -> None:
    """Refuse what can never be a socket's path.

    Args:
        path: where a socket is to be.
        most: bytes that it may have.

    Raises:
        SettingsError: it is too long, or names nothing.
    """
    size = len(os.fsencode(path))
    if size > most:
        raise SettingsError(
            f"the socket path is {size} bytes long: {path}",
            why=f"the kernel holds 108 bytes for it, and at most {most} are used here",
            remedy="give a shorter path",
        )
    if not path.name:
        raise SettingsError(f"{path} does not name a socket", remedy="give a path that ends in a file name")


def not_a_socket(path: Path) -> SettingsError:
    """What is to be said when something else than a stream socket is in a socket's place."""
    found = "a directory" if path.is_dir() else "a file that is no stream socket"
    return SettingsError(
        f"{path} cannot be replaced by a socket",
        why=f"there is {found}, and only stale sockets are replaced",
        remedy="remove it if it is not needed, or give another path",
    )


def unusable(path: Path, error: OSError) -> UnavailableError:
    """What is to be said when the system refuses a path."""
    return UnavailableError(
        f"{path} cannot be bound",
        why=f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else ""),
        remedy="make its directory exist and writable for this user, or give another path",
    )


def _try_connecting(path: Path, patience: float) -> PathInspection:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if patience > 0:
            # Not settimeout(), which makes connect() fail at once where the kernel itself would wait for a place.
            whole = int(patience)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(whole, int((patience - whole) * 1e6)))
        else:
            probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
            bound_name = probe.getpeername()
            _, uid, _ = _UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        except ConnectionRefusedError:
            return PathInspection(PathState.STALE)
        except FileNotFoundError:
            return PathInspection(PathState.FREE)
        except BlockingIOError:
            return PathInspection(PathState.LIVE)
        except PermissionError as error:
            raise unusable(path, error) from error
        except OSError as error:
            # ENOTCONN: a signal ended the wait for a place, which connect() in Python takes for success (PEP 475).
            return PathInspection(PathState.LIVE if error.errno == errno.ENOTCONN else PathState.OTHER)
    # A name in Linux' abstract space comes as bytes, and so does one that is not UTF-8.
    return PathInspection(PathState.LIVE, SocketHolder(os.fsdecode(bound_name or ""), uid))


def _listen(path: Path, tag: str, mode: int, backlog: int, *, replace: bool) -> BoundUnixSocket:
    temporary = path.with_name(f".{path.name}.{tag}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(temporary))
        try:
            temporary.chmod(mode)
            listener.listen(backlog)
            listener.setblocking(False)
            status = temporary.lstat()
            if replace:
                temporary.replace(path)
            else:
                path.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    except BaseException:
        listener.close()
        raise
    return BoundUnixSocket(listener, path, FileIdentity(status.st_dev, status.st_ino))
