"""The objects that a command on the add-on uses: the cluster, helm, clocks, and the display of progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from confcom.addon.helm import Helm
from confcom.addon.login import Cluster
from confcom.addon.preflight import Finding


class Mark(StrEnum):
    DONE = "done"
    WAITING = "waiting"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Row:
    subject: str
    text: str
    mark: Mark


class ProgressTable(Protocol):
    def show(self, rows: Sequence[Row], *, note: str = "") -> None: ...


class ProgressReporter(Protocol):
    """Shows a command's progress to people; programs do not read this text."""

    def say(self, line: str) -> None: ...
    def findings(self, findings: Sequence[Finding]) -> None: ...
    def table(self, title: str) -> ProgressTable: ...


@dataclass(frozen=True, slots=True)
class AddOn:
    cluster: Cluster
    helm: Helm
    reporter: ProgressReporter
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    now: Callable[[], datetime]
