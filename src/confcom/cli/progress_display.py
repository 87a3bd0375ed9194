"""Prints progress while a command changes a cluster: one line for each change of state.

Progress goes to stderr, so that stdout has only the result.
"""

import contextlib
import re
from collections.abc import Callable, Sequence

import click

from confcom.addon.command import Mark, ProgressTable, Row
from confcom.addon.preflight import Finding, Outcome
from confcom.errors import printable, why_and_remedy

_MARKS = {Mark.DONE: "ok", Mark.WAITING: "..", Mark.BAD: "!!"}
_COLOURS = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red", Outcome.SKIPPED: "white"}
NOTE_SECONDS = 10.0
"""Seconds between two lines that print how long the command has waited."""
_VARYING = re.compile(r"[0-9]+|(?<=-)[bcdfghjklmnpqrstvwxz2456789]{5}\b")
"""Parts of a reason that vary for the same cause: ports, seconds, restarts, ends of generated names."""


class LineReporter:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def say(self, line: str) -> None:
        _print(printable(line))

    def findings(self, findings: Sequence[Finding]) -> None:
        width = max((len(str(one.check)) for one in findings), default=0)
        for one in findings:
            outcome = click.style(f"{one.outcome:<7}", fg=_COLOURS[one.outcome])
            _print(f"  {outcome}  {one.check:<{width}}  {printable(one.what)}")
            for line in why_and_remedy(one.why, one.remedy):
                _print(f"         {line}")

    def table(self, title: str) -> ProgressTable:
        self.say(f"{title} ...")
        return _LineTable(self._clock)


class _LineTable:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shown: dict[str, list[Row]] = {}
        self._printed: set[tuple[str, str, str]] = set()
        self._last: dict[str, Mark] = {}
        self._noted_at = clock()

    def show(self, rows: Sequence[Row], *, note: str = "") -> None:
        """Print the rows that have changed. The note changes at every call; it is printed at intervals.

        A state that recurs for the same reason is printed once; `done` is printed again after another state.
        Two rows may have the same subject, for example while a node's device plugin moves to another DaemonSet.
        """
        now: dict[str, list[Row]] = {}
        for row in rows:
            now.setdefault(row.subject, []).append(row)
            if row not in self._shown.get(row.subject, ()) and self._is_new(row):
                _print(printable(f"  {_MARKS[row.mark]}  {row.subject}  {row.text}"))
        self._shown |= now
        if note and self._clock() - self._noted_at >= NOTE_SECONDS:
            self._noted_at = self._clock()
            _print(printable(f"  ..  {note}"))

    def _is_new(self, row: Row) -> bool:
        state, _, reason = row.text.partition(": ")
        cause = (row.subject, state, _VARYING.sub("", reason))
        if cause in self._printed and not (row.mark is Mark.DONE and self._last[row.subject] is not Mark.DONE):
            return False
        self._printed.add(cause)
        self._last[row.subject] = row.mark
        return True


def _print(line: str) -> None:
    # Write errors are ignored: a closed pipe (`2>&1 | head`) must not stop a change to a cluster half-way.
    with contextlib.suppress(OSError):
        click.echo(line, err=True)
