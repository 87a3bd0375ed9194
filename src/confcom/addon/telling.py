"""What a change tells while it is being made; who is told is the command's affair."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from confcom.addon.findings import Finding


class Mark(StrEnum):
    """How a row stands."""

    DONE = "done"
    WAITING = "waiting"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a progress display."""

    subject: str
    text: str
    mark: Mark


class ProgressReporter(Protocol):
    """Tells people, and says nothing to programs."""

    def say(self, line: str) -> None:
        """One line that stays."""

    def findings(self, findings: Sequence[Finding]) -> None:
        """What preflight found."""

    def busy(self, title: str) -> AbstractContextManager[None]:
        """Something of unknown length is being done."""

    def waiting(self, title: str) -> AbstractContextManager[ProgressTable]:
        """Something is waited for, whose state can be shown."""


class ProgressTable(Protocol):
    """Shows rows that change."""

    def show(self, rows: Sequence[Row], *, note: str = "") -> None:
        """The rows as they are now.

        Args:
            rows: all of them.
            note: one more line, such as how long it may still take.
        """
