"""One run of aesmd, and what its answers say about the run."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.aesm.messages import MessageKind
from confcom.quote_provider.base import QuoteProviderError

INIT: Final = MessageKind.INIT_QUOTE_EX.call
QUOTING_CALLS: Final = frozenset(
    {INIT, MessageKind.GET_QUOTE_SIZE_EX.call, MessageKind.GET_QUOTE_EX.call},
)
SPENT_BY_INIT: Final = frozenset(
    {AesmErrorCode.UNEXPECTED_ERROR, AesmErrorCode.OUT_OF_EPC, AesmErrorCode.ENCLAVE_LOAD_ERROR}
)
"""Answers of a failed load of the ID enclave. The next InitQuoteEx of the process succeeds, and its quotes carry an
uninitialised QE id (measured with Intel's code). 1 has other causes too, which the number does not tell apart."""
SPENT_BY_ANY_CALL: Final = frozenset({AesmErrorCode.ENCLAVE_LOST, AesmErrorCode.SERVICE_UNAVAILABLE})
"""aesmd never loads a lost enclave again, and refuses some requests with 30 while it ends."""
SPENT_LINK: Final = "spent"
"""Beside aesmd's socket: a symbolic link to the `key` of the instance that is never ready again. A quote helper that
starts anew beside the same aesmd reads it."""


@dataclass(frozen=True, slots=True)
class AesmdInstance:
    """One run of aesmd, by its socket: each run makes a new one."""

    inode: int
    changed_ns: int

    @classmethod
    def at(cls, socket_path: str | Path) -> Self | None:
        """Return the instance whose socket is at the path; None if there is no file."""
        try:
            found = os.lstat(socket_path)
        except OSError:
            return None
        return cls(found.st_ino, found.st_ctime_ns)

    @property
    def key(self) -> str:
        return f"{self.inode}-{self.changed_ns}"

    def __str__(self) -> str:
        """Return inode and ctime in seconds, as `stat -c '%i %Z'` prints them."""
        return f"{self.inode} {self.changed_ns // 10**9}"


class AesmdRecord:
    """What the calls of clients and of the self-test found out about the instance that runs now."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = str(socket_path)
        self._spent: tuple[AesmdInstance, QuoteProviderError] | None = None
        self._renewed_in_vain: AesmdInstance | None = None
        self.last: AesmdInstance | None = None
        """What `find` returned last: a look at the socket costs as much as a twentieth of a relayed quote."""
        self._link = socket_path.with_name(SPENT_LINK)
        with contextlib.suppress(OSError):  # there is none
            if (instance := self.find()) and instance.key == str(self._link.readlink()):
                self._spent = (instance, _spent_before())

    def find(self) -> AesmdInstance | None:
        """Return the instance that runs now, or that ended without removing its socket."""
        self.last = AesmdInstance.at(self._socket_path)
        return self.last

    @property
    def spent(self) -> QuoteProviderError | None:
        """The answer after which the running instance is never ready again, whatever it answers later."""
        if self._spent is None or self._spent[0] != self.find():
            return None
        return self._spent[1].with_traceback(None)

    @property
    def may_renew(self) -> bool:
        """Whether InitQuoteEx may still end refusals of this instance: not if it was in vain once."""
        return self._renewed_in_vain is None or self._renewed_in_vain != self.find()

    def spend(self, instance: AesmdInstance | None, error: QuoteProviderError) -> None:
        """Record an answer of SPENT_BY_INIT or SPENT_BY_ANY_CALL, by the instance that was asked, if it still runs.

        The first counts, but for 30, which is of one that ends: only the others are kept for a helper that starts anew.
        """
        known = self._spent if self._spent and self._spent[0] == instance else None
        if (
            instance is None
            or instance != self.find()
            or (known and known[1].code is not AesmErrorCode.SERVICE_UNAVAILABLE)
        ):
            return
        self._spent = (instance, error)
        if error.code is not AesmErrorCode.SERVICE_UNAVAILABLE:
            with contextlib.suppress(OSError):  # then only this process knows
                self._link.unlink(missing_ok=True)
                self._link.symlink_to(instance.key)

    def renew_in_vain(self) -> None:
        self._renewed_in_vain = self.find()


def _spent_before() -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.ENCLAVE_LOST,
        "aesmd makes no quotes",
        error_code=code_of(AesmErrorCode.ENCLAVE_LOST),
        why="it lost an enclave, or could not load one, before this quote helper started",
        remedy="restart aesmd",
    )
