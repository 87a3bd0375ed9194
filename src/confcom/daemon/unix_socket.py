"""Listening unix sockets that neither take another program's place nor delete what is not theirs.

Intel's AESM unlinks the path by name at start and at stop, so that an old instance that ends deletes its successor's
socket. Here a path is bound only if nothing lives there, appears only when it already listens, with its final mode,
and is removed only by the one that made it.

A socket is bound in a private directory beside its path, and then given the path by link(2), which never replaces, or
by rename(2), which replaces at once: no client ever finds the path missing. The kernel goes on telling the name that
was bound to every client (getpeername(2)), which is how programs of one kind recognise each other's sockets.

The private directory protects against users who may write the directory of the path: they can rename it or put a
symbolic link in its place, but they cannot change what is in it, and it is used only by its descriptor. chmod(2) of a
name that they could exchange would change the mode of any file that they choose.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
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
"""Random bytes in the name `.NAME.xxxxxx` that is bound, which `ss -xl` goes on showing: people recognise it."""
MAX_PATH_BYTES = SUN_PATH_BYTES - 2 - 2 * _TEMPORARY_BYTES
"""As if `.NAME.xxxxxx` beside the path had to fit into sun_path too."""
_BOUND_NAME_BYTES = SUN_PATH_BYTES - len("/proc/self/fd/1048576/")
"""What fits into sun_path after the private directory's descriptor; a process has at most 1,048,576 (fs.nr_open)."""
_PRIVATE_PREFIX = ".confcom-"
"""Of the private directory's name; a program that is killed while it binds leaves an empty one behind."""
_NEW_DIRECTORY = "new"
"""What a directory is called in the private one, until it has its mode."""
_ATTEMPTS = 3
"""Another starter may bind or remove the path between our look and our step; then look again."""


@dataclass(frozen=True, slots=True)
class BoundUnixSocket:
    """A listening socket and the path entry that belongs to it."""

    socket: socket.socket
    path: Path
    identity: FileIdentity

    def owns_path(self) -> bool:
        """Say whether the path still leads to this socket."""
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

    Args:
        directory: where.
        mode: permission bits of each directory that is made, whatever the umask is.

    Raises:
        NotADirectoryError: something else is there.
        OSError: it cannot be done.
    """
    if directory.is_dir():
        return
    if not directory.parent.is_dir():
        make_directory(directory.parent, mode)
    with private_directory(directory.parent) as private:
        os.mkdir(_NEW_DIRECTORY, dir_fd=private)
        try:
            with open_path(_NEW_DIRECTORY, directory=private) as made:
                set_mode(made, mode)
            # Replaces nothing but an empty directory that another starter has made since.
            os.rename(_NEW_DIRECTORY, directory, src_dir_fd=private)
        except OSError as error:
            os.rmdir(_NEW_DIRECTORY, dir_fd=private)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # rename(2) permits both
                raise


@contextlib.contextmanager
def private_directory(parent: Path) -> Iterator[int]:
    """Make a directory that only this user can use, for as long as the context lasts; its descriptor is given.

    Raises:
        OSError: it cannot be made, or somebody has put another one in its place.
    """
    try:
        name = tempfile.mkdtemp(prefix=_PRIVATE_PREFIX, dir=parent)
    except OSError as error:
        raise _about(parent, error) from error
    try:
        descriptor = _open_private(name, parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):
            Path(name).rmdir()


@contextlib.contextmanager
def open_path(name: str | bytes | Path, *, directory: int | None = None) -> Iterator[int]:
    """Give a descriptor (O_PATH) of a file itself, never of what a symbolic link leads to.

    Args:
        name: where.
        directory: the descriptor of the directory that a relative name is in.

    Raises:
        OSError: there is nothing, or it may not be reached.
    """
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permission bits of the file that a descriptor of `open_path` stands for.

    Raises:
        OSError: it cannot be done.
    """
    # fchmod(2) refuses O_PATH; its entry in /proc leads to that file, whatever has happened to its name.
    Path(f"/proc/self/fd/{descriptor}").chmod(mode)


def _open_private(name: str, parent: Path) -> int:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _about(parent, error) from error
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "another user has exchanged what was just made there", os.fspath(parent))
    return descriptor


def _about(directory: Path, error: OSError) -> OSError:
    """Return the error without a random name, so that the same failure reads the same each time."""
    return OSError(error.errno, error.strerror, os.fspath(directory))


def _listen(path: Path, tag: str, mode: int, backlog: int, *, replace: bool) -> BoundUnixSocket:
    name = os.fsencode(f".{path.name}.{tag}")[-_BOUND_NAME_BYTES:]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with private_directory(path.parent) as private:
            listener.bind(os.fsencode(f"/proc/self/fd/{private}/") + name)
            try:
                with open_path(name, directory=private) as bound:
                    set_mode(bound, mode)
                    status = os.fstat(bound)
                listener.listen(backlog)
                listener.setblocking(False)
                if replace:
                    os.rename(name, path, src_dir_fd=private)
                else:
                    os.link(name, path, src_dir_fd=private, follow_symlinks=False)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=private)
    except BaseException:
        listener.close()
        raise
    return BoundUnixSocket(listener, path, FileIdentity(status.st_dev, status.st_ino))
