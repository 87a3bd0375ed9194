"""The demo's report: one record per step. It is printed as text or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from confcom.errors import ConfcomError


class StepError(ConfcomError):
    """A step of the demo failed."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: its events, its duration, and the commands that repeat it."""

    number: int
    title: str
    ok: bool
    seconds: float
    happened: tuple[str, ...]
    commands: tuple[str, ...]
    data: Mapping[str, object]
    error: Mapping[str, str | int] | None = None


@dataclass(frozen=True, slots=True)
class StoryReport:
    """All steps. `ok` is true only if every step ran and succeeded."""

    mode: str
    folder: str
    steps: tuple[StepReport, ...]
    expected_steps: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every step ran and succeeded."""
        return len(self.steps) == self.expected_steps and all(step.ok for step in self.steps)

    def as_data(self) -> dict[str, object]:
        """Return the data of `--output json`."""
        return {"ok": self.ok} | asdict(self)
