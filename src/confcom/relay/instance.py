"""A run of aesmd, and the state of the run as aesmd's answers have shown it."""

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from confcom.aesm.error_code import AesmErrorCode, code_of, describe
from confcom.quote_provider.base import QuoteProviderError

FAILURE_LINK: Final = "failed-instance"
"""Name of a symbolic link beside aesmd's socket; its target is `key` and error code of a run that only a
restart ends. A restarted quote helper beside the same aesmd reads the link."""


@dataclass(frozen=True, slots=True)
class AesmdInstance:
    """Identity of a run of aesmd, taken from its socket, since each run makes a new socket."""

    inode: int
    changed_ns: int

    @classmethod
    def at(cls, socket_path: str | Path) -> Self | None:
        try:
            status = os.lstat(socket_path)
        except OSError:
            return None
        return cls(status.st_ino, status.st_ctime_ns)

    @property
    def key(self) -> str:
        return f"{self.inode}-{self.changed_ns}"

    def __str__(self) -> str:
        """Return the socket's inode and ctime in seconds, as `stat -c '%i %Z'` prints them."""
        return f"{self.inode} {self.changed_ns // 10**9}"


@dataclass(slots=True, eq=False)
class AesmdRun:
    """State of a run of aesmd, as its answers have shown it. A late answer changes only the state of its own run."""

    instance: AesmdInstance
    initialised: bool = False
    """Whether an InitQuoteEx succeeded. After the first success, the QE's id stays valid (measured)."""
    failure: QuoteProviderError | None = None
    """The run's first error that only a restart of aesmd ends; later answers do not clear it."""
    lasting: set[AesmErrorCode] = field(default_factory=set)
    """Codes of refusals that continued after another InitQuoteEx. A passed self-test empties this set."""


class AesmdRuns:
    """Distinguishes the runs of aesmd. Threads and the event loop may use an instance at the same time."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = str(socket_path)
        self._link = socket_path.with_name(FAILURE_LINK)
        self._lock = threading.Lock()
        self.last: AesmdRun | None = None
        """The last result of `current`, stored because a new call costs a twentieth of a relayed quote."""

    def current(self) -> AesmdRun | None:
        """Return the run whose socket is at the path, even an ended run; None if there is no socket."""
        instance = AesmdInstance.at(self._socket_path)
        with self._lock:
            if instance is None:
                self.last = None
            elif self.last is None or self.last.instance != instance:
                self.last = AesmdRun(instance, failure=self._recorded_failure(instance))
            return self.last

    def fail(self, run: AesmdRun | None, error: QuoteProviderError) -> None:
        """Record an error that only a restart of aesmd ends; a run keeps its first such error."""
        error.lost = True
        if run is None or run.failure is not None:
            return
        run.failure = error
        with contextlib.suppress(OSError):  # without the link, only this process knows the failure
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(f"{run.instance.key}-{int(error.code)}")

    def _recorded_failure(self, instance: AesmdInstance) -> QuoteProviderError | None:
        try:
            key, _, number = str(self._link.readlink()).rpartition("-")
            code = AesmErrorCode(int(number))
        except (OSError, ValueError):  # there is no link, or another program made it
            return None
        if key != instance.key:
            return None
        return QuoteProviderError(
            code,
            "aesmd makes no quotes",
            error_code=code_of(code),
            why=f"it answered {describe(code)} before this quote helper started, and only a restart ends that state",
            remedy="restart aesmd",
            lost=True,
        )
