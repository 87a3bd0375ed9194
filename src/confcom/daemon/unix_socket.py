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
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.socket_path import (
    SUN_PATH_BYTES,
    FileIdentity,
    PathState,
    inspect_path,
    not_a_socket,
    require_usable_path,
    unusable,
)
from confcom.errors import UnavailableError

_TEMPORARY_BYTES = 3
"""Random bytes in the temporary name `.NAME.xxxxxx`, which `ss -xl` goes on showing: it must be told apart from others'
for an instant, and be recognised by people."""
MAX_PATH_BYTES = SUN_PATH_BYTES - 2 - 2 * _TEMPORARY_BYTES
"""What a path may have so that the temporary name beside it fits too."""
_ATTEMPTS = 3
"""Another starter may bind or remove the path between our look and our step; then look again."""


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
