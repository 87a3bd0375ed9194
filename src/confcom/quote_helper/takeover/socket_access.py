"""Owners and modes of the AESM socket and its directory: which users can connect, and which can replace the socket."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confcom.daemon.logs import LogLimiter
from confcom.daemon.readiness_log import NotReady
from confcom.daemon.socket_path import FileIdentity, not_a_socket
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.takeover.unix_socket import BoundUnixSocket, open_path, set_mode

_logger = logging.getLogger(__name__)

SOCKET_MODE: Final = 0o666
"""Connecting needs write permission (unix(7)), and enclave programs run as any user. Intel's aesmd uses 0777."""
DIRECTORY_MODE: Final = 0o755
"""Every user may reach the socket, and no other user may replace it."""
_ROOT: Final = 0
_OTHERS_MAY_ENTER: Final = stat.S_IXGRP | stat.S_IXOTH


def describe(status: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}, gid {status.st_gid}"


def who_else_can_replace(directory: os.stat_result, *, me: int) -> str | None:
    """Return who, besides root and the user `me`, can replace a socket in this directory; None: nobody."""
    if directory.st_uid not in (_ROOT, me):
        return f"the user {directory.st_uid}, who owns the directory,"
    if directory.st_mode & stat.S_ISVTX:
        return None  # users may create files there, but may not rename or remove those of other users
    if directory.st_mode & stat.S_IWOTH:
        return "every user"
    if directory.st_mode & stat.S_IWGRP and directory.st_gid != _ROOT:
        return f"the group {directory.st_gid}"
    return None


def repaired_mode(mode: int) -> int:
    """Return the mode that lets every user enter the socket's directory and only its owner write it.

    A directory with the sticky bit, such as /tmp, is shared with other programs, and keeps its mode. Unrelated bits,
    such as setgid, are kept too.
    """
    if mode & stat.S_ISVTX:
        return mode
    if mode & _OTHERS_MAY_ENTER != _OTHERS_MAY_ENTER:
        mode |= DIRECTORY_MODE
    # The owner must be able to create the socket there.
    return (mode | stat.S_IRWXU) & ~(stat.S_IWGRP | stat.S_IWOTH)


class SocketAccess:
    def __init__(self, path: Path, *, open_to_all: bool, limits: HelperLimits, clock: Callable[[], float]) -> None:
        self._path = path
        self._open_to_all = open_to_all
        self._repair_log = LogLimiter(limits.repeated_log_seconds, clock)
        self._warned: str | None = None

    def check_directory(self) -> NotReady | None:
        """Repair the directory's mode, warn if others can replace the socket, and return why some users cannot enter.

        The mode is not changed through a symbolic link, which can lead to a directory that is not the helper's. This
        check comes first, because the socket cannot be inspected without the right to enter the directory.
        """
        directory = self._path.parent
        try:
            with _open_directory(directory) as (opened, linked):
                if not linked:
                    self._repair_mode(opened, directory, repaired_mode)
                found = os.fstat(opened)
        except OSError as error:
            _logger.debug("the socket's directory cannot be examined", extra={"error": str(error)})
            return None
        self._warn(found)
        if found.st_mode & stat.S_IXOTH or not self._open_to_all:
            return None
        reason = f"clients of other users cannot enter the socket's directory ({describe(found)})"
        return NotReady(f"{reason}; {self._remedy}", code="socket-directory-closed")

    def check_socket(self, bound: BoundUnixSocket) -> NotReady | None:
        """Repair the socket's mode, and return why clients of some users cannot connect to it."""
        try:
            with open_path(self._path) as opened:
                if FileIdentity.from_status(os.fstat(opened)) != bound.identity:
                    return None  # it was replaced meanwhile, which the next check will find
                self._repair_mode(opened, self._path, lambda _: SOCKET_MODE)
                found = os.fstat(opened)
        except OSError as error:
            _logger.debug("the socket cannot be examined", extra={"error": str(error)})
            return None
        if found.st_mode & SOCKET_MODE == SOCKET_MODE or not self._open_to_all:
            return None
        return NotReady(
            f"clients of other users cannot connect to the socket ({describe(found)}); {self._remedy}",
            code="socket-closed",
        )

    def socket_is_anothers(self) -> bool:
        """Return whether the socket was given to another user, so that its mode cannot be set any more."""
        try:
            return self._path.lstat().st_uid != os.geteuid()
        except OSError:
            return False

    def _repair_mode(self, descriptor: int, path: Path, wanted: Callable[[int], int]) -> None:
        found = os.fstat(descriptor)
        was = stat.S_IMODE(found.st_mode)
        mode = wanted(was)
        if not self._open_to_all or was == mode or found.st_uid != os.geteuid():
            return
        set_mode(descriptor, mode)
        if (suppressed := self._repair_log.admit()) is not None:
            _logger.warning(
                "the mode of %s was changed; the helper restored %04o",
                path,
                mode,
                extra={"event": "mode-restored", "was": f"{was:04o}", "not_logged_since": suppressed},
            )

    def _warn(self, directory: os.stat_result) -> None:
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
                    "why": describe(directory),
                    "remedy": f"give the directory to the helper's user or to root, with mode {DIRECTORY_MODE:04o}",
                },
            )

    @property
    def _remedy(self) -> str:
        directory, mode = self._path.parent, f"{DIRECTORY_MODE:04o}"
        return (
            "start the helper's Pod again, whose init container repairs the directory, or on the node: "
            f"chown {os.geteuid()} {directory} && chmod {mode} {directory}"
        )


def remove_directory(path: Path) -> None:
    """Remove an empty directory at the socket's path.

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
            raise not_a_socket(path) from error
        raise
    _logger.warning(
        "the helper removed an empty directory at the socket's path",
        extra={
            "event": "empty-directory-removed",
            "path": str(path),
            "why": "a container runtime creates it for a hostPath volume of the socket's path while the socket is "
            "missing",
            "remedy": f"the Pod with that volume gets no socket: have it mount {path.parent}, and start it again",
        },
    )


@contextmanager
def _open_directory(directory: Path) -> Iterator[tuple[int, bool]]:
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
