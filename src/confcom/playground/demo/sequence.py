"""The demo's sequence of steps, which ends at the first failure, and its report: one record per step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from confcom.errors import ConfcomError, as_data
from confcom.playground.demo.context import DemoContext, Notes
from confcom.playground.demo.epc_step import pending_then_runs
from confcom.playground.demo.steps import daemons, quote_out_of_process, simulated_platform, submit_job
from confcom.playground.demo.verification_step import verification


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its title and its function."""

    title: str
    run: Callable[[DemoContext, Notes], None]


STEPS = (
    Step("A simulated SGX platform", simulated_platform),
    Step("A node, its SGX device plugin and its quote helper", daemons),
    Step("The Job is submitted and gets its EPC", submit_job),
    Step("Its container gets a quote, out of process", quote_out_of_process),
    Step("A relying party verifies the quote", verification),
    Step("EPC is finite: a Job that does not fit waits", pending_then_runs),
)


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
class DemoReport:
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


def run(context: DemoContext, *, begin: Callable[[int, str], None], end: Callable[[StepReport], None]) -> DemoReport:
    """Run the steps in order, up to the first that fails."""
    began = time.monotonic()
    reports: list[StepReport] = []
    for number, step in enumerate(STEPS, start=1):
        begin(number, step.title)
        reports.append(_run_step(number, step, context))
        end(reports[-1])
        if not reports[-1].ok:
            break
    return DemoReport(
        mode=context.mode_flag,
        folder=str(context.folder),
        steps=tuple(reports),
        expected_steps=len(STEPS),
        seconds=round(time.monotonic() - began, 3),
    )


def _run_step(number: int, step: Step, context: DemoContext) -> StepReport:
    notes, began = Notes(), time.monotonic()
    error: dict[str, str | int] | None = None
    try:
        step.run(context, notes)
    except ConfcomError as failure:
        error = as_data(failure)
    return StepReport(
        number=number,
        title=step.title,
        ok=error is None,
        seconds=round(time.monotonic() - began, 3),
        happened=tuple(notes.happened),
        commands=tuple(notes.commands),
        data=notes.data,
        error=error,
    )
