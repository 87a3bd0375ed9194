"""Who can reach the AESM socket, and who could replace it: the owners and modes of the socket and of its directory."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.daemon.logs import LogLimiter
from confcom.daemon.socket_path import FileIdentity, not_an_empty_directory
from confcom.daemon.unix_socket import BoundUnixSocket, open_path, set_mode
from confcom.quote_helper.limits import DIRECTORY_MODE, SOCKET_MODE, HelperLimits

_logger = logging.getLogger(__name__)

_ROOT: Final = 0
_ENTER_BY_OTHERS: Final = stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class FileAccess:
    """Whose a file is, and what its mode permits."""

    uid: int
    gid: int
    mode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileAccess:
        """Return what fstat(2) says of a file."""
        return cls(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))

    def __str__(self) -> str:
        return f"mode {self.mode:04o}, uid {self.uid}, gid {self.gid}"


def who_else_can_replace(directory: FileAccess, *, me: int) -> str | None:
    """Say who beside root and this user can put another socket in this one's place; None: nobody can.

    Args:
        directory: the socket's.
        me: the user of this helper.
    """
    if directory.uid not in (_ROOT, me):
        return f"the user {directory.uid}, who owns the directory,"
    if directory.mode & stat.S_ISVTX:
        return None  # who may make files there may not rename or remove those of others
    if directory.mode & stat.S_IWOTH:
        return "every user"
    if directory.mode & stat.S_IWGRP and directory.gid != _ROOT:
        return f"the group {directory.gid}"
    return None


def cannot_enter(directory: FileAccess) -> str | None:
    """Say why clients of some users cannot reach what is in a directory; None: all can.

    Access control lists are not looked at.
    """
    if directory.mode & stat.S_IXOTH:
        return None
    return f"clients of other users cannot enter the socket's directory ({directory})"


def cannot_connect(socket: FileAccess) -> str | None:
    """Say why clients of some users cannot connect to a socket that they reach; None: all can."""
    if socket.mode & SOCKET_MODE == SOCKET_MODE:
        return None
    return f"clients of other users cannot connect to the socket ({socket})"


def mended_mode(directory: FileAccess) -> int:
    """Return the mode that lets every user enter the socket's directory and only its owner write it.

    A directory with the sticky bit, such as /tmp, is shared with other programs, and keeps its mode. Bits that make no
    difference to either, such as setgid, stay too.
    """
    mode = directory.mode
    if mode & stat.S_ISVTX:
        return mode
    if mode & _ENTER_BY_OTHERS != _ENTER_BY_OTHERS:
        mode |= DIRECTORY_MODE
    # The owner makes the socket there.
    return (mode | stat.S_IRWXU) & ~(stat.S_IWGRP | stat.S_IWOTH)


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether clients of every user can connect."""

    reason: str | None = None
    """Why not; None also if it cannot be told, or if it is not wanted."""
    needs_new_socket: bool = False
    """Whether the reason is the socket itself, which now belongs to another user, so that its mode cannot be set."""


class SocketAccess:
    """Looks after the modes of one socket and its directory.

    Args:
        path: the socket's.
        open_to_all: whether they are to be set back to what lets every user connect.
        limits: how often a change is logged.
        clock: monotonic seconds.
    """

    def __init__(self, path: Path, *, open_to_all: bool, limits: HelperLimits, clock: Callable[[], float]) -> None:
        self._path = path
        self._open_to_all = open_to_all
        self._mended = LogLimiter(limits.repeated_log_seconds, clock)
        self._warned: str | None = None

    def look_at_directory(self) -> str | None:
        """Mend the directory's mode, warn who can write it, and say why clients of some users cannot enter it.

        A symbolic link is not followed to change a mode: it can lead to a directory that is not the helper's. This look
        comes before anything else: without the right to enter it, the socket is not even seen.
        """
        directory = self._path.parent
        try:
            with _open_directory(directory) as (opened, linked):
                if not linked:
                    self._mend(opened, directory, mended_mode)
                found = FileAccess.of(os.fstat(opened))
        except OSError as error:
            _logger.debug("the socket's directory cannot be looked at", extra={"error": str(error)})
            return None
        self._warn(found)
        reason = cannot_enter(found) if self._open_to_all else None
        if reason is not None and linked:
            reason += f", and its mode is not changed, because {directory} is a symbolic link"
        elif reason is not None and found.mode & stat.S_ISVTX:
            return (
                f"{reason}, and its mode is not changed, because it has the sticky bit; give the socket a "
                f"directory of its own, or run on the node: chmod a+rx {directory}"
            )
        return self._explained(reason)

    def look_at_socket(self, bound: BoundUnixSocket) -> Reach:
        """Mend the socket's mode, and say whether clients of every user can connect to it."""
        try:
            with open_path(self._path) as opened:
                status = os.fstat(opened)
                if FileIdentity(status.st_dev, status.st_ino) != bound.identity:
                    return Reach()  # it was replaced since, which the next look tells
                self._mend(opened, self._path, lambda _: SOCKET_MODE)
                found = FileAccess.of(os.fstat(opened))
        except OSError as error:
            _logger.debug("the socket cannot be looked at", extra={"error": str(error)})
            return Reach()
        reason = self._explained(cannot_connect(found))
        return Reach(reason, needs_new_socket=reason is not None and found.uid != os.geteuid())

    def _mend(self, descriptor: int, path: Path, wanted: Callable[[FileAccess], int]) -> None:
        found = FileAccess.of(os.fstat(descriptor))
        mode = wanted(found)
        if not self._open_to_all or found.mode == mode or found.uid != os.geteuid():
            return
        set_mode(descriptor, mode)
        if (suppressed := self._mended.admit()) is not None:
            _logger.warning(
                "somebody changed the mode of %s; it was set back to %04o",
                path,
                mode,
                extra={"was": f"{found.mode:04o}", "not_logged_since": suppressed},
            )

    def _warn(self, directory: FileAccess) -> None:
        who = who_else_can_replace(directory, me=os.geteuid())
        if who == self._warned:
            return
        self._warned = who
        if who is not None:
            _logger.warning(
                "%s can replace the AESM socket",
                who,
                extra={
                    "directory": str(self._path.parent),
                    "why": str(directory),
                    "remedy": f"give the directory to the helper's user or to root, with mode {DIRECTORY_MODE:04o}",
                },
            )

    def _explained(self, reason: str | None) -> str | None:
        if reason is None or not self._open_to_all:
            return None
        directory, mode = self._path.parent, f"{DIRECTORY_MODE:04o}"
        return (
            f"{reason}; start the helper's Pod again, whose init container mends the directory, or on the node: "
            f"chown {os.geteuid()} {directory} && chmod {mode} {directory}"
        )


def remove_directory(path: Path) -> None:
    """Remove an empty directory in the socket's place.

    Raises:
        SettingsError: it is not empty.
        OSError: it cannot be removed.
    """
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise not_an_empty_directory(path) from error
        raise
    _logger.warning(
        "an empty directory was in the socket's place; it was removed",
        extra={
            "path": str(path),
            "why": "a container runtime makes one for a hostPath volume that names the socket while it is not there",
            "remedy": f"the Pod with that volume gets no socket: have it mount {path.parent}, and start it again",
        },
    )


@contextmanager
def _open_directory(directory: Path) -> Iterator[tuple[int, bool]]:
    """Give a descriptor that needs no permission for the directory itself, and whether a symbolic link led to it."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    linked = False
    try:
        descriptor = os.open(directory, flags | os.O_NOFOLLOW)
    except NotADirectoryError:
        descriptor = os.open(directory, flags)
        linked = True
    try:
        yield descriptor, linked
    finally:
        os.close(descriptor)
