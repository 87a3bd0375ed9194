"""Listening unix sockets that do not delete another program's path, and replace it only if they are told to.

Intel's AESM unlinks the path by name at start and at stop, so an old instance that ends deletes its successor's socket.
Here a path appears with its final mode when its socket already listens, and only the program that made it removes it.

A socket is bound in a private directory beside its path and then gets the path by link(2), which never replaces, or by
rename(2), which replaces atomically, so that no client finds the path missing. getpeername(2) still reports the bound
name to every client, and programs of one kind recognise each other's sockets by it.

The private directory protects against users who may write the directory of the path: they can rename it or put a
symbolic link in its place, but they cannot change its content, and it is used only by its descriptor. Otherwise they
could replace the name before chmod(2), which would then change the mode of a file of their choice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.socket_path import (
    SUN_PATH_BYTES,
    FileIdentity,
)

_BOUND_NAME_BYTES = SUN_PATH_BYTES - len("/proc/self/fd/1048576/")
"""Bytes of sun_path after the private directory's descriptor; a process has at most 1,048,576 (fs.nr_open)."""
_PRIVATE_PREFIX = ".confcom-"
"""Prefix of the private directory's name; a program that is killed while it binds leaves an empty one behind."""


@dataclass(frozen=True, slots=True)
class BoundUnixSocket:
    """A listening socket and the path entry that belongs to it."""

    socket: socket.socket
    path: Path
    identity: FileIdentity

    def owns_path(self) -> bool:
        """Return whether the path still leads to this socket."""
        return FileIdentity.of(self.path) == self.identity

    def unlink(self) -> bool:
        """Remove the path if it still leads to this socket, and return whether it did. The socket must be open."""
        if not self.owns_path():
            return False
        self.path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Remove the path if it still leads to this socket, and close the socket. May be called twice."""
        if self.socket.fileno() >= 0:
            self.unlink()
            self.socket.close()


def listen_at(path: Path, *, tag: str, mode: int, backlog: int, replace: bool = False) -> BoundUnixSocket:
    """Listen at a path, where nothing may be unless it is to be replaced.

    A replacement is atomic: each client connects to the old or to the new socket. The temporary name is `.NAME.TAG`.

    Raises:
        FileExistsError: something is at the path, and it is not to be replaced.
        OSError: the socket cannot be bound.
    """
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
    return BoundUnixSocket(listener, path, FileIdentity.from_status(status))


def make_directory(directory: Path, mode: int) -> None:
    """Make a directory and its missing parents, if it is missing; existing ones are not changed.

    Raises:
        NotADirectoryError: something else is at the path.
        OSError: the directory cannot be made.
    """
    if os.path.lexists(directory) and not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(directory))
    directory.mkdir(mode, parents=True, exist_ok=True)


@contextlib.contextmanager
def private_directory(parent: Path) -> Iterator[int]:
    """Make a directory that only this user can use, and yield its descriptor; it is removed at the end.

    Raises:
        OSError: it cannot be made, or another user has replaced it.
    """
    try:
        name = tempfile.mkdtemp(prefix=_PRIVATE_PREFIX, dir=parent)
    except OSError as error:
        raise _with_directory(parent, error) from error
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
    """Yield a descriptor (O_PATH) of a file, relative to the descriptor `directory`; it follows no symbolic link."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permission bits of the file of a descriptor from `open_path`."""
    # fchmod(2) refuses O_PATH; the entry in /proc leads to the same file even if its name was replaced.
    Path(f"/proc/self/fd/{descriptor}").chmod(mode)


def _open_private(name: str, parent: Path) -> int:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _with_directory(parent, error) from error
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "another user has exchanged what was just made there", os.fspath(parent))
    return descriptor


def _with_directory(directory: Path, error: OSError) -> OSError:
    """Return the error with the parent directory in place of a random name, so that equal failures have equal texts."""
    return OSError(error.errno, error.strerror, os.fspath(directory))
