"""What is at the path of a unix socket: nothing, a dead socket, a program's, or something else; and whose it is.

Looking sends nothing, so that a program that is looked at sees no more than a client that thinks better of it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from confcom.errors import SettingsError, UnavailableError

SUN_PATH_BYTES = 107
"""sun_path holds 108 bytes with its final zero (unix(7))."""
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
    return _not_replaced(path, f"there is {found}, and only stale sockets are replaced")


def not_an_empty_directory(path: Path) -> SettingsError:
    """What is to be said when a directory in a socket's place has something in it."""
    return _not_replaced(path, "there is a directory that is not empty, and only an empty one is removed")


def unusable(path: Path, error: OSError) -> UnavailableError:
    """What is to be said when the system refuses a path."""
    return UnavailableError(
        f"{path} cannot be bound",
        why=f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else ""),
        remedy="make its directory exist and writable for this user, or give another path",
    )


def _not_replaced(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path} cannot be replaced by a socket",
        why=why,
        remedy="remove it if it is not needed, or give another path",
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
