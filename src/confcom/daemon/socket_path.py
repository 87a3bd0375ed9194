"""Inspection of a unix socket's path, which is free or has a stale socket, a live socket, or something else.

The inspection connects to a live socket and sends nothing, so the program there sees a client that disconnects.
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

from confcom import passed_descriptors
from confcom.daemon.connected_socket import CREDENTIALS, peer_credentials
from confcom.errors import SettingsError, UnavailableError

SUN_PATH_BYTES = 107
"""Maximum length of a path: sun_path has 108 bytes including the final zero (unix(7))."""
_TIMEVAL = struct.Struct("@qq")
"""struct timeval of 64-bit Linux, for SO_SNDTIMEO."""


class PathState(Enum):
    FREE = "nothing"
    STALE = "a socket without a listening program"
    LIVE = "a socket on which a program listens"
    OTHER = "a file that is not a stream socket"


_STATES = {
    errno.ENOENT: PathState.FREE,
    errno.ECONNREFUSED: PathState.STALE,
    errno.EAGAIN: PathState.LIVE,  # the backlog is full
    errno.ENOTCONN: PathState.LIVE,  # a signal ended connect()'s wait for room (PEP 475)
}
"""The state of the path, keyed by the error number of connect()."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Device and inode of a socket's file, which distinguish the file from another one at the same path.

    The identity is valid only while the socket is open, because the kernel then keeps the inode and its
    number. Timestamps are no part of the identity, because link(2), rename(2) and chmod(2) change them.
    """

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity | None:
        """Return the identity of the file at the path; None if no file exists, or it cannot be inspected."""
        try:
            found = path.lstat()
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


@dataclass(frozen=True, slots=True)
class SocketHolder:
    """The kernel's data about a live socket's owner. `bound_name` proves nothing: any program can bind a name."""

    bound_name: str
    """The name to which the socket was bound, even if that file was replaced; empty if there was no name."""
    uid: int
    """User id of the program when it began to listen, in our user namespace."""


@dataclass(frozen=True, slots=True)
class PathInspection:
    state: PathState
    holder: SocketHolder | None = None
    """The live socket's owner; None if no connection could be made, as with a full backlog."""
    stale: FileIdentity | None = None
    """Identity of a stale socket's file, so that no other file is removed by mistake."""


def inspect_socket(path: Path, *, patience: float = 0) -> PathInspection:
    """Return what is at a path. If a live socket's backlog is full, wait `patience` seconds for the owner."""
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
    """Raise an error if a path can never be the path of a socket."""
    size = len(os.fsencode(path))
    if size > most:
        raise SettingsError(
            f"the socket path is {size} bytes long: {path}",
            error_code="socket-path-too-long",
            why=f"the kernel limits it to 108 bytes, and confcom to {most}",
            remedy="give a shorter path",
        )
    if not path.name:
        raise SettingsError(
            f"{path} does not name a socket",
            error_code="socket-path-without-name",
            remedy="give a path that ends in a file name",
        )


def not_a_socket(path: Path) -> SettingsError:
    found = "a directory that is not empty" if path.is_dir() else "a file that is not a stream socket"
    return SettingsError(
        f"{path} cannot be replaced by a socket",
        error_code="not-a-socket",
        why=f"the path is {found}, and confcom replaces stale sockets and empty directories only",
        remedy="remove it if nothing uses it, or give another path",
    )


def unusable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} cannot be bound",
        error_code="socket-path-unusable",
        why=f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else ""),
        remedy="make its directory exist, writable for this user and not full, or give another path",
    )


def _try_connecting(path: Path, patience: float) -> PathInspection:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        passed_descriptors.refuse(probe)
        if patience > 0:
            # With SO_SNDTIMEO, connect() waits while the backlog is full; with settimeout() it fails at once.
            whole = int(patience)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(whole, int((patience - whole) * 1e6)))
        else:
            probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
            bound_name = probe.getpeername()
            _, uid, _ = CREDENTIALS.unpack(peer_credentials(probe))
        except PermissionError as error:
            raise unusable(path, error) from error
        except OSError as error:
            return PathInspection(_STATES.get(error.errno or 0, PathState.OTHER))
    # getpeername() returns bytes for a name in Linux' abstract namespace.
    return PathInspection(PathState.LIVE, SocketHolder(os.fsdecode(bound_name or ""), uid))
