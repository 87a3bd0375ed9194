"""The decision that aesmd must be restarted, and the file by which its liveness probe learns of it.

Only a restart ends some states of aesmd: a hang, a quoting enclave that was not loaded at its start, an ID enclave that
once failed to load. Other causes lie outside of it (PCCS, network, certificates), and a restart would only interrupt
clients.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.quote_provider.aesmd import HANGS
from confcom.quote_provider.base import QuoteProviderError

RESTART_CURES: Final = frozenset(
    {
        AesmErrorCode.UNEXPECTED_ERROR,
        AesmErrorCode.OUT_OF_EPC,
        AesmErrorCode.SERVICE_UNAVAILABLE,
        AesmErrorCode.UNSUPPORTED_ATT_KEY_ID,
        AesmErrorCode.INTERFACE_UNAVAILABLE,
        AesmErrorCode.ATT_KEY_NOT_INITIALIZED,
        AesmErrorCode.ENCLAVE_LOST,
        AesmErrorCode.ENCLAVE_LOAD_ERROR,
    }
)
"""What a living aesmd may go on answering after the cause is gone (measured with Intel's code)."""
FIRST_RESTART_SECONDS: Final = 60.0
"""How long aesmd must have refused before the first restart: its enclaves, PCCS or EPC may come back by themselves."""
LONGEST_PAUSE_SECONDS: Final = 1800.0
"""Between restarts: the pause doubles up to this, since a restart that did not help interrupts clients for nothing."""

REQUEST_FILE: Final = "restart-requested"
"""Beside aesmd's socket. It holds inode and ctime of the socket of the aesmd that must end, as `stat -c '%i %Z'`
prints them, so that it means nothing to the next aesmd, and also if the helper has gone."""


class RestartPolicy:
    """Decides by successive self-tests when aesmd must be restarted.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refusing_since: float | None = None
        self._pause = FIRST_RESTART_SECONDS

    def on_success(self) -> None:
        """Forget all failures."""
        self._refusing_since = None
        self._pause = FIRST_RESTART_SECONDS

    def must_restart(self, error: QuoteProviderError) -> bool:
        """Return whether aesmd must be restarted now, after another failed self-test."""
        if error.error_code == HANGS:
            self._refusing_since = None
            return True
        if error.lost or error.code not in RESTART_CURES:
            self._refusing_since = None
            return False
        now = self._clock()
        if self._refusing_since is None:
            self._refusing_since = now
        if now - self._refusing_since < self._pause:
            return False
        self._refusing_since = None
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True


def request_restart(socket_path: Path) -> None:
    """Write the request for the aesmd that serves `socket_path`.

    Raises:
        OSError: there is no such socket, or its directory cannot be written.
    """
    found = socket_path.stat()
    written = socket_path.with_name(f".{REQUEST_FILE}.{os.getpid()}")
    written.write_text(f"{found.st_ino} {int(found.st_ctime)}\n", encoding="ascii")
    written.replace(socket_path.with_name(REQUEST_FILE))
