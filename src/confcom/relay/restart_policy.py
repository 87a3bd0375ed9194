"""When aesmd is restarted, and the request for it, which aesmd's liveness probe reads."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.quote_provider.base import QuoteProviderError
from confcom.relay.instance import AesmdInstance
from confcom.relay.provider import HANGS

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
"""How long one aesmd must have refused before its restart, unless it is spent or hangs: it may answer again by itself,
as one that is still starting."""
FIRST_PAUSE_SECONDS: Final = 120.0
"""After a restart, until the next one, at least."""
LONGEST_PAUSE_SECONDS: Final = 1800.0
"""The pause doubles up to this, since a restart that did not help interrupts clients for nothing."""

REQUEST_FILE: Final = "restart-requested"
"""Beside aesmd's socket. It holds inode and ctime of the socket of the aesmd that must end, as `stat -c '%i %Z'`
prints them, so that it means nothing to the next aesmd."""


class RestartPolicy:
    """Decides by successive self-tests when aesmd must be restarted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._instance: AesmdInstance | None = None
        self._refusing_since: float | None = None
        self._restarted_at: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    def on_success(self) -> None:
        self._refusing_since = None
        self._pause = FIRST_PAUSE_SECONDS

    def must_restart(
        self,
        instance: AesmdInstance | None,
        error: QuoteProviderError,
        *,
        spent: bool = False,
        answers_again: bool = False,
    ) -> bool:
        """Return whether this instance must be restarted now, after another failed self-test of it.

        Without a socket there is no instance. `spent` is one that is never ready again, `answers_again` one that only
        this keeps from being ready: its cause is gone.
        """
        now = self._clock()
        if instance != self._instance:
            self._instance = instance
            self._refusing_since = None
        if instance is None:
            return False
        if not spent and error.error_code != HANGS:
            # Other codes than the number's own: aesmd did not refuse. It is away, or its answer was not relayed.
            if error.code not in RESTART_CURES or error.error_code != code_of(error.code):
                self._refusing_since = None
                return False
            if self._refusing_since is None:
                self._refusing_since = now
            if now - self._refusing_since < FIRST_RESTART_SECONDS:
                return False
        pause = FIRST_PAUSE_SECONDS if answers_again else self._pause
        if self._restarted_at is not None:
            if now - self._restarted_at < pause:
                return False
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._refusing_since = None
        self._restarted_at = now
        return True


def request_restart(socket_path: Path, instance: AesmdInstance) -> None:
    """Write the request for an instance. If it has ended already, the request means nothing.

    Raises:
        OSError: the socket's directory cannot be written.
    """
    written = socket_path.with_name(f".{REQUEST_FILE}")
    written.unlink(missing_ok=True)
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        os.write(descriptor, f"{instance}\n".encode("ascii"))
    finally:
        os.close(descriptor)
    written.replace(socket_path.with_name(REQUEST_FILE))
