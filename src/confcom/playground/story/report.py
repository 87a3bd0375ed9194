"""What the story leaves behind: one record per step, as data and as the source of what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from confcom.errors import ConfcomError


class StepError(ConfcomError):
    """A step of the story did not hold."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: what happened, how long it took, and the commands that repeat it."""

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
    """The whole story. `ok` only if every step was reached and held."""

    mode: str
    folder: str
    steps: tuple[StepReport, ...]
    expected_steps: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every step held."""
        return len(self.steps) == self.expected_steps and all(step.ok for step in self.steps)

    def as_data(self) -> dict[str, object]:
        """For `--output json`."""
        return {"ok": self.ok} | asdict(self)
