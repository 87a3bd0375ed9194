"""In process or out of process: decided as Intel's libraries do, once per process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from confcom.errors import ConfcomError, UnavailableError

MODE_VARIABLE: Final = "SGX_AESM_ADDR"
"""Its presence decides; its value, even an empty one, means nothing (libsgx_dcap_ql, Open Enclave)."""


class QuotingMode(Enum):
    """Where the quoting enclave is."""

    IN_PROCESS = "in process"
    OUT_OF_PROCESS = "out of process"


class MixedModeError(ConfcomError):
    """One process asked for quotes both in process and out of process."""


class InProcessQuotingError(UnavailableError):
    """Quoting in process was chosen, and nothing here can do that."""


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """Which way, and why, for people."""

    mode: QuotingMode
    reason: str

    def __str__(self) -> str:
        """One line for logs."""
        return f"quoting {self.mode.value}, because {self.reason}"


def choose_mode(environ: Mapping[str, str]) -> ModeChoice:
    """The way that the environment asks for."""
    if MODE_VARIABLE in environ:
        return ModeChoice(QuotingMode.OUT_OF_PROCESS, f"{MODE_VARIABLE} is set (its value does not matter)")
    return ModeChoice(QuotingMode.IN_PROCESS, f"{MODE_VARIABLE} is not set")


class ProcessMode:
    """Remembers the first choice, for the life of whatever owns it; normally the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: ModeChoice | None = None

    def settle(self, choice: ModeChoice) -> ModeChoice:
        """Make the first choice final.

        Raises:
            MixedModeError: another way was used before.
        """
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
"""The one state that a module keeps in this project: it belongs to the process, as for Intel's libraries, whose choice
is made by a constructor when they are loaded."""


def require_out_of_process(choice: ModeChoice) -> None:
    """Refuse what cannot be done yet, and say what can.

    Raises:
        InProcessQuotingError: the choice is in process.
    """
    if choice.mode is QuotingMode.IN_PROCESS:
        raise InProcessQuotingError(
            "quoting in process is not possible here",
            why=f"{choice.reason}, and confcom has no provider that works inside a program's own process yet",
            remedy=f"set {MODE_VARIABLE}=1 before the program starts, to quote out of process, by the AESM socket",
        )
