"""The times of aesmd's restarts, and the restart request, which aesmd's liveness probe reads."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confcom.relay.instance import AesmdInstance

FIRST_PAUSE_SECONDS: Final = 120.0
"""The first pause, and the time for which aesmd's probe accepts a restart request."""
LONGEST_PAUSE_SECONDS: Final = 1800.0
"""The longest pause. An outage may end this long after its cause, as only a restart shows the cause's end."""

REQUEST_FILE: Final = "restart-requested"
"""Name of the request's file beside aesmd's socket. The file holds inode and ctime of the socket of the aesmd
that must end, as `stat -c '%i %Z'` prints them, so that the next aesmd ignores the file."""


class RestartPolicy:
    """Decides when to restart an aesmd whose failure only a restart can end.

    The first restart is due at once, the next one after a pause of two minutes. The pause doubles with each restart,
    up to half an hour, since useless restarts interrupt clients. A passed self-test resets the pause to two minutes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._restarted_at = -math.inf
        self._restarted: AesmdInstance | None = None
        self._pause = 0.0

    def reset(self) -> None:
        self._pause = min(self._pause, FIRST_PAUSE_SECONDS)

    def seconds_until_due(self) -> float:
        return max(0.0, self._restarted_at + self._pause - self._clock())

    def is_being_restarted(self, instance: AesmdInstance) -> bool:
        """Return whether the last restart request was for this instance and is still valid."""
        return instance == self._restarted and self._clock() - self._restarted_at < FIRST_PAUSE_SECONDS

    def restart(self, instance: AesmdInstance) -> None:
        self._restarted_at, self._restarted = self._clock(), instance
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def request_restart(socket_path: Path, instance: AesmdInstance) -> None:
    """Write the restart request for an instance of aesmd; an instance that has ended ignores it."""
    written = socket_path.with_name(f".{REQUEST_FILE}")
    written.unlink(missing_ok=True)
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        os.write(descriptor, f"{instance}\n".encode("ascii"))
    finally:
        os.close(descriptor)
    written.replace(socket_path.with_name(REQUEST_FILE))
