import os
import sys

import pytest

from confcom.addon.command import Mark, Row
from confcom.addon.preflight import Check, Finding, Outcome
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


def bad(text):
    return Row("a  quote helper", text, Mark.BAD)


@pytest.mark.parametrize(
    ("rows", "printed"),
    [
        ([bad("failing: ErrImagePull: x"), bad("failing: ImagePullBackOff: x")] * 3, [0, 1]),
        ([bad(f"failing: ErrImagePull: {port}->10.0.0.1:443: refused") for port in (4711, 5822)], [0]),
        ([bad(f'no Pod yet: pods "confcom-quote-helper-{end}" is forbidden') for end in ("x7k2p", "bbbbb")], [0]),
        ([DONE, WAITS, DONE, WAITS, DONE, bad("failing: x"), DONE], [0, 1, 2, 5, 6]),
        ([Row("all nodes", f"{done} of 99 steps are done", Mark.WAITING) for done in (1, 2, 1, 3)], [0, 1, 3]),
        ([bad("failing: x"), bad("failing: y"), bad("not ready: x")], [0, 1, 2]),
    ],
    ids=["back and forth", "ports", "generated names", "ready again", "counts", "other causes"],
)
def test_a_cause_has_one_line(capsys, rows, printed):
    table = LineReporter(lambda: 0.0).table("Waiting")
    for row in rows:
        table.show([row])
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [line[6:] for line in lines] == [f"{rows[at].subject}  {rows[at].text}" for at in printed]


def test_whoever_reads_the_log_no_more_ends_no_change(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1, closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        reporter = LineReporter(lambda: 0.0)
        reporter.say("Labelled the node a.")
        reporter.findings([Finding(Check.HELM, Outcome.OK, "passed", "v4")])
        reporter.table("Waiting").show([WAITS])
        with pytest.raises(BrokenPipeError):
            print("x", file=stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # takes the buffer's remaining text
    os.close(writing)
