"""The demo's sequence of steps, which ends at the first failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from confcom.errors import ConfcomError, as_data
from confcom.playground.story.ledger_step import pending_then_runs
from confcom.playground.story.report import StepReport, StoryReport
from confcom.playground.story.scene import DemoContext, Notes
from confcom.playground.story.steps import daemons, quote_out_of_process, simulated_platform, submit_job
from confcom.playground.story.trust_steps import verification


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


class StepListener(Protocol):
    """Receives the progress of the demo."""

    def begin(self, number: int, title: str) -> None:
        """Handle the start of a step."""

    def end(self, report: StepReport) -> None:
        """Handle the end of a step."""


def run(
    context: DemoContext, listener: StepListener, *, after_step: Callable[[int, DemoContext], None] | None = None
) -> StoryReport:
    """Run the steps in order, up to the first that fails.

    Args:
        context: the demo's context, with open processes and client.
        listener: receives the start and the end of each step.
        after_step: called after each step that succeeded, with its number; tests use it to break something.
    """
    began = time.monotonic()
    reports: list[StepReport] = []
    for number, step in enumerate(STEPS, start=1):
        listener.begin(number, step.title)
        report = _run_step(number, step, context)
        reports.append(report)
        listener.end(report)
        if not report.ok:
            break
        if after_step is not None:
            after_step(number, context)
    return StoryReport(
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
