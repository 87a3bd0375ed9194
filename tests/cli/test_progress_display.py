import os
import sys

import pytest

from confcom.addon.preflight import Check, Finding, Outcome
from confcom.addon.waiting import Mark, Row
from confcom.cli.progress_display import NOTE_SECONDS, LineReporter

WAITS = Row("a  quote helper", "starting", Mark.WAITING)
DONE = Row("a  quote helper", "ready (0.1.0)", Mark.DONE)
BAD = Row("b  quote helper", "failing: \x1b[2Jcleared", Mark.BAD)


def test_every_change_is_one_line(capsys):
    times = iter([0.0, 1.0, 2.0, NOTE_SECONDS, NOTE_SECONDS])
    table = LineReporter(lambda: next(times)).table("Waiting")
    for number, rows in enumerate(([WAITS, BAD], [WAITS, BAD], [DONE, BAD])):
        table.show(rows, note=f"{number} of at most 9")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "Waiting ...",
        "  ..  a  quote helper  starting",
        "  !!  b  quote helper  failing: \\x1b[2Jcleared",
        "  ok  a  quote helper  ready (0.1.0)",
        "  ..  2 of at most 9",
    ]


def test_whoever_reads_the_log_no_more_ends_no_change(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1, closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        reporter = LineReporter(lambda: 0.0)
        reporter.say("Labelled the node a.")
        reporter.findings([Finding(Check.HELM, Outcome.OK, "passed", "v4")])
        table = reporter.table("Waiting")
        table.show([WAITS])
        with pytest.raises(BrokenPipeError):
            print("x", file=stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # for what its buffer holds
    os.close(writing)
