"""Owners and modes of the AESM socket and its directory: which users can connect."""

import contextlib
import errno
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.daemon.logs import LogLimiter
from confcom.daemon.readiness_log import NotReady
from confcom.daemon.socket_path import not_a_socket
from confcom.quote_helper.takeover.unix_socket import open_path, set_mode

_logger = logging.getLogger(__name__)

SOCKET_MODE: Final = 0o666
"""Clients may run as any user, and need write permission to connect (unix(7)). Intel's aesmd uses 0777."""
DIRECTORY_MODE: Final = 0o755
"""Every user may reach the socket, and only the owner may replace it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SocketAccess:
    """Lets every user connect if `open_to_all` is set; otherwise owners and modes stay as they are."""

    path: Path
    open_to_all: bool
    restored_log: LogLimiter

    def open_directory(self) -> NotReady | None:
        """Restore the directory's mode; return the reason if some users still cannot enter the directory.

        A shared directory (with the sticky bit, like /tmp) keeps its mode. A directory behind a symbolic link also
        keeps its mode, as it may be another program's. To inspect the socket, a program must enter the directory.
        """
        if not self.open_to_all:
            return None
        directory = self.path.parent
        with contextlib.suppress(OSError), open_path(directory) as opened:
            found = os.fstat(opened)
            own = stat.S_ISDIR(found.st_mode) and not found.st_mode & stat.S_ISVTX and found.st_uid == os.geteuid()
            if own and stat.S_IMODE(found.st_mode) != DIRECTORY_MODE:
                set_mode(opened, DIRECTORY_MODE)
                self._log(directory, found)
        try:
            found = directory.stat()
        except OSError:
            return None  # bind() will fail too, and report the reason
        if found.st_mode & stat.S_IXOTH:
            return None
        mode, me = f"{DIRECTORY_MODE:04o}", os.geteuid()
        return NotReady(
            "clients of other users cannot enter the socket's directory "
            f"(mode {stat.S_IMODE(found.st_mode):04o}, uid {found.st_uid}, gid {found.st_gid}); "
            "start the helper's Pod again, whose init container repairs the directory, or on the node: "
            f"chown {me} {directory} && chmod {mode} {directory}",
            code="socket-directory-closed",
        )

    def socket_was_changed(self) -> bool:
        """Return whether some users cannot connect; if so, a new socket must take the path."""
        try:
            found = self.path.lstat()
        except OSError:
            return False  # the next check of the path finds this error
        changed = stat.S_IMODE(found.st_mode) != SOCKET_MODE or found.st_uid != os.geteuid()
        if changed and self.open_to_all:
            self._log(self.path, found)
        return changed and self.open_to_all

    def _log(self, path: Path, found: os.stat_result) -> None:
        if (suppressed := self.restored_log.admit()) is not None:
            fields = {"was": f"{stat.S_IMODE(found.st_mode):04o}", "uid": found.st_uid, "not_logged_since": suppressed}
            _logger.warning("%s was changed, and is restored", path, extra={"event": "mode-restored"} | fields)


def remove_directory(path: Path) -> None:
    """Remove an empty directory at the socket's path; raise SettingsError if it is not empty."""
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
