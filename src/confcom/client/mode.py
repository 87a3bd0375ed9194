"""The choice between quoting in process and out of process, which is made once per process, as in Intel's libraries."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from confcom.errors import ConfcomError, UnavailableError

MODE_VARIABLE: Final = "SGX_AESM_ADDR"
"""This variable only has to be set; its value may be anything, even empty (libsgx_dcap_ql, Open Enclave)."""


class QuotingMode(Enum):
    """Where the quoting enclave runs."""

    IN_PROCESS = "in process"
    """In the application's own process."""
    OUT_OF_PROCESS = "out of process"
    """The quoting enclave runs in the process of a service that speaks AESM's protocol."""


class MixedModeError(ConfcomError):
    """A process requested quotes in one mode after its first request had chosen the other mode."""

    error_code = "mixed-quoting-modes"


class InProcessQuotingError(UnavailableError):
    """Quoting in process was chosen, but is not supported.

    Quoting in process is chosen if SGX_AESM_ADDR is not set and the program passes no client.
    """

    error_code = "in-process-unsupported"


@dataclass(frozen=True, slots=True)
class ModeChoice:
    mode: QuotingMode
    reason: str

    def __str__(self) -> str:
        return f"quoting {self.mode.value}, because {self.reason}"


CLIENT_GIVEN: Final = ModeChoice(QuotingMode.OUT_OF_PROCESS, "the program gave a client for an AESM socket")


def choose_mode(environ: Mapping[str, str]) -> ModeChoice:
    if MODE_VARIABLE in environ:
        return ModeChoice(QuotingMode.OUT_OF_PROCESS, f"{MODE_VARIABLE} is set (its value does not matter)")
    return ModeChoice(QuotingMode.IN_PROCESS, f"{MODE_VARIABLE} is not set")


class ProcessMode:
    """Stores the first choice of a mode; normally a process has one instance of this class."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: ModeChoice | None = None

    def settle(self, choice: ModeChoice) -> ModeChoice:
        with self._lock:
            first = self._first = self._first or choice
        if choice.mode is not first.mode:
            raise MixedModeError(
                f"this process cannot quote {choice.mode.value}",
                why=f"it first chose quoting {first.mode.value}, and one process uses one way",
                remedy=f"set {MODE_VARIABLE} (or leave it unset) before the program starts, and do not change it",
            )
        return first


PROCESS_MODE: Final = ProcessMode()
"""The only module-level state in this project. It belongs to the process, as in Intel's libraries, where a constructor
makes the choice when the library is loaded."""


def require_out_of_process(choice: ModeChoice) -> None:
    if choice.mode is QuotingMode.IN_PROCESS:
        raise InProcessQuotingError(
            "quoting in process is not possible here",
            why=f"{choice.reason}, and confcom has no provider that works inside a program's own process yet",
            remedy=f"set {MODE_VARIABLE}=1 before the program starts, to quote out of process, by the AESM socket",
        )
