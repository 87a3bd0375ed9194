"""Progress reporting of a change; the commands implement these protocols for their output."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from confcom.addon.preflight.findings import Finding


class Mark(StrEnum):
    """The state of a row."""

    DONE = "done"
    WAITING = "waiting"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a progress table."""

    subject: str
    text: str
    mark: Mark


class ProgressReporter(Protocol):
    """Reports progress to people; programs do not read it."""

    def say(self, line: str) -> None:
        """Print one line."""

    def findings(self, findings: Sequence[Finding]) -> None:
        """Print preflight's findings."""

    def busy(self, title: str) -> AbstractContextManager[None]:
        """Show a title while work of unknown length runs."""

    def waiting(self, title: str) -> AbstractContextManager[ProgressTable]:
        """Show a title and a table while the command waits."""


class ProgressTable(Protocol):
    """Shows rows, which may change."""

    def show(self, rows: Sequence[Row], *, note: str = "") -> None:
        """Show the current rows."""
