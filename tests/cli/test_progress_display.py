import os
import sys

import pytest
from rich.console import Console

from confcom.addon.preflight import Check, Finding, Outcome
from confcom.addon.waiting import Mark, Row
from confcom.cli import progress_display
from confcom.cli.progress_display import LineReporter, TerminalReporter

WAITS = Row("a  quote helper", "starting", Mark.WAITING)
DONE = Row("a  quote helper", "ready (0.1.0)", Mark.DONE)
BAD = Row("b  quote helper", "failing: \x1b[2Jcleared", Mark.BAD)


def test_in_a_log_every_change_is_one_line(capsys):
    with LineReporter().waiting("Waiting") as table:
        table.show([WAITS, BAD], note="1 s")
        table.show([WAITS, BAD], note="2 s")
        table.show([DONE, BAD], note="3 s")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "Waiting ...",
        "  ..  a  quote helper  starting",
        "  !!  b  quote helper  failing: \\x1b[2Jcleared",
        "  ok  a  quote helper  ready (0.1.0)",
    ]


def test_whoever_reads_the_log_no_more_ends_no_change(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1, closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        reporter = LineReporter()
        reporter.say("Labelled the node a.")
        reporter.findings([Finding(Check.HELM, Outcome.OK, "passed", "v4")])
        with reporter.busy("Checking"), reporter.waiting("Waiting") as table:
            table.show([WAITS])
        with pytest.raises(BrokenPipeError):
            print("x", file=stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # for what its buffer holds
    os.close(writing)


def test_on_a_terminal_the_last_state_stays(monkeypatch):
    console = Console(record=True, force_terminal=True, width=100, highlight=False, markup=False)
    reporter = TerminalReporter()
    reporter._console = console
    with reporter.busy("Looking"):
        reporter.say("[bold] is no markup")
    with reporter.waiting("Waiting") as table:
        table.show([WAITS], note="1 s")
        table.show([DONE, BAD], note="2 s of at most 9 s")
    shown = console.export_text()
    assert "[bold] is no markup" in shown
    assert "✓  a  quote helper  ready (0.1.0)" in shown
    assert "✗  b  quote helper  failing: \\x1b[2Jcleared" in shown
    assert "2 s of at most 9 s" in shown
    assert progress_display.reporter(terminal=True).__class__ is TerminalReporter
