"""The decision that aesmd must be restarted, and the file by which its liveness probe learns of it.

Only a restart ends some states of aesmd: a hang, a quoting enclave that was not loaded at its start, an ID enclave that
once failed to load. Other causes lie outside of it (PCCS, network, certificates), and a restart would only interrupt
clients.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from confcom.aesm.error_code import AesmErrorCode, code_of
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
"""How long one aesmd must have refused before its restart: its enclaves, PCCS or EPC may come back by themselves."""
FIRST_PAUSE_SECONDS: Final = 120.0
"""After a restart, until the next one, at least."""
LONGEST_PAUSE_SECONDS: Final = 1800.0
"""The pause doubles up to this, since a restart that did not help interrupts clients for nothing."""

REQUEST_FILE: Final = "restart-requested"
"""Beside aesmd's socket. It holds inode and ctime of the socket of the aesmd that must end, as `stat -c '%i %Z'`
prints them, so that it means nothing to the next aesmd."""


@dataclass(frozen=True, slots=True)
class AesmdInstance:
    """One run of aesmd, by its socket: each run makes a new one."""

    inode: int
    changed_ns: int

    @classmethod
    def at(cls, socket_path: Path) -> Self | None:
        """Return the instance whose socket is at the path; None if there is no file."""
        try:
            found = socket_path.lstat()
        except OSError:
            return None
        return cls(found.st_ino, found.st_ctime_ns)

    def __str__(self) -> str:
        """Return what the request file holds."""
        return f"{self.inode} {self.changed_ns // 10**9}"


class RestartPolicy:
    """Decides by successive self-tests when aesmd must be restarted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._instance: AesmdInstance | None = None
        self._refusing_since: float | None = None
        self._poisoned = False
        self._not_before = clock()
        self._pause = FIRST_PAUSE_SECONDS

    def on_success(self) -> None:
        """Forget all failures."""
        self._refusing_since = None
        self._poisoned = False
        self._pause = FIRST_PAUSE_SECONDS

    def must_restart(self, instance: AesmdInstance | None, error: QuoteProviderError) -> bool:
        """Return whether this instance must be restarted now, after another failed self-test of it."""
        now = self._clock()
        if instance != self._instance:
            self._instance = instance
            self._refusing_since = None
            self._poisoned = False
        if instance is None:
            return False
        if error.error_code != HANGS:
            if not self._only_a_restart_helps(error):
                self._refusing_since = None
                return False
            if self._refusing_since is None:
                self._refusing_since = now
            if now - self._refusing_since < FIRST_RESTART_SECONDS:
                return False
        if now < self._not_before:
            return False
        self._refusing_since = None
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True

    def _only_a_restart_helps(self, error: QuoteProviderError) -> bool:
        if error.error_code != code_of(error.code):
            return False  # aesmd did not refuse: it is away, or its answer was not relayed
        if error.code in RESTART_CURES:
            self._poisoned = True
            return True
        # After a failed load of the ID enclave aesmd asks PCCS for a platform that does not exist.
        return self._poisoned and error.code is AesmErrorCode.NO_PLATFORM_CERT_DATA


def request_restart(socket_path: Path, instance: AesmdInstance) -> bool:
    """Write the request for an instance; return False if it has ended already.

    Raises:
        OSError: the socket's directory cannot be written.
    """
    if AesmdInstance.at(socket_path) != instance:
        return False
    written = socket_path.with_name(f".{REQUEST_FILE}")
    with contextlib.suppress(FileNotFoundError):
        written.unlink()
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        os.write(descriptor, f"{instance}\n".encode("ascii"))
    finally:
        os.close(descriptor)
    written.replace(socket_path.with_name(REQUEST_FILE))
    return True


def withdraw_request(socket_path: Path) -> None:
    """Remove the request, since aesmd works.

    Raises:
        OSError: the socket's directory cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        socket_path.with_name(REQUEST_FILE).unlink()
