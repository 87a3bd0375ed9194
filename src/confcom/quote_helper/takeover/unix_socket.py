"""Listening unix sockets that never delete another program's path, and replace one only if `replace` is set.

Intel's AESM unlinks the path by name at start and at stop, so an old instance that ends deletes its successor's socket.
A path is added once its socket listens with the final mode. Only the socket's program removes the path.

A socket is bound to a second name in the path's directory. link(2) then adds the path and never replaces a file, or
rename(2) replaces the file atomically, so that no client finds the path missing. getpeername(2) still reports the
bound name to every client. Quote helpers recognise the sockets of other quote helpers by this name.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confcom import passed_descriptors
from confcom.daemon.socket_path import FileIdentity


@dataclass(frozen=True, slots=True)
class BoundUnixSocket:
    """A listening socket, and the path that leads to this socket."""

    socket: socket.socket
    path: Path
    identity: FileIdentity

    def owns_path(self) -> bool:
        return FileIdentity.of(self.path) == self.identity

    def unlink(self) -> bool:
        """Remove the path if it still leads to this open socket; return whether the path was removed."""
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
    """Bind `.NAME.TAG`, and listen at a path; raise FileExistsError if the path exists and `replace` is false."""
    bound = path.with_name(f".{path.name}.{tag}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        passed_descriptors.refuse(listener)
        _remove(bound)
        listener.bind(os.fspath(bound))
        try:
            identity = _set_own_mode(bound, mode)
            listener.listen(backlog)
            if replace:
                bound.rename(path)
            else:
                os.link(bound, path, follow_symlinks=False)
        finally:
            bound.unlink(missing_ok=True)
    except BaseException:
        listener.close()
        raise
    return BoundUnixSocket(listener, path, identity)


def make_directory(directory: Path, mode: int) -> None:
    """Make a directory and its missing parents; raise NotADirectoryError if something else is at the path."""
    if os.path.lexists(directory) and not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(directory))
    directory.mkdir(mode, parents=True, exist_ok=True)


@contextlib.contextmanager
def open_path(path: Path) -> Iterator[int]:
    """Yield a descriptor (O_PATH) of a file; follow no symbolic link."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def set_mode(descriptor: int, mode: int) -> None:
    # fchmod(2) refuses O_PATH. /proc/self/fd leads to the open file, even if another file has got its name.
    Path(f"/proc/self/fd/{descriptor}").chmod(mode)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def _set_own_mode(path: Path, mode: int) -> FileIdentity:
    """Set the mode of a socket that was just bound, and return the file identity of the socket.

    Users who may write to the directory can replace the socket by a link, whose target must keep its mode.
    """
    with open_path(path) as opened:
        found = os.fstat(opened)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise PermissionError(errno.EPERM, "another user has replaced the new socket", os.fspath(path.parent))
        set_mode(opened, mode)
        return FileIdentity(found.st_dev, found.st_ino)
