"""Progress output while a cluster is changed: a live display on a terminal, otherwise one line for each change.

All of it goes to stderr, so that stdout has only the result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from confcom.addon.preflight import Finding, Outcome
from confcom.addon.waiting import Mark, ProgressTable, Row
from confcom.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_MARKS = {Mark.DONE: "✓", Mark.WAITING: "…", Mark.BAD: "✗"}
_PLAIN_MARKS = {Mark.DONE: "ok", Mark.WAITING: "..", Mark.BAD: "!!"}
_COLOURS = {Mark.DONE: "green", Mark.WAITING: "yellow", Mark.BAD: "red"}
_OUTCOME_COLOURS = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red", Outcome.SKIPPED: "white"}
REFRESH_PER_SECOND = 8
"""Refresh rate of the display on a terminal, high enough for its spinner."""


def _print(line: str) -> None:
    # A closed pipe, as with `2>&1 | head`, must not stop a change to a cluster half-way.
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


class LineReporter:
    """The display for logs and pipes: it prints every line once."""

    def say(self, line: str) -> None:
        """Print a line."""
        _print(printable(line))

    def findings(self, findings: Sequence[Finding]) -> None:
        """Print the findings, each with its reason and remedy."""
        for line in finding_lines(findings):
            _print(line)

    @contextlib.contextmanager
    def busy(self, title: str) -> Iterator[None]:
        """Print what is being done."""
        self.say(f"{title} ...")
        yield

    @contextlib.contextmanager
    def waiting(self, title: str) -> Iterator[ProgressTable]:
        """Print what is waited for, and yield a board that prints changes."""
        self.say(f"{title} ...")
        yield _LineBoard()


class _LineBoard:
    def __init__(self) -> None:
        self._shown: dict[str, list[Row]] = {}

    def show(self, rows: Sequence[Row], *, note: str = "") -> None:
        """Print the rows that have changed. The note is ignored, because it changes at every call.

        Rows may share a subject, for example when a node's device plugin moves to another DaemonSet.
        """
        del note
        now: dict[str, list[Row]] = {}
        for row in rows:
            now.setdefault(row.subject, []).append(row)
            if row not in self._shown.get(row.subject, ()):
                _print(printable(f"  {_PLAIN_MARKS[row.mark]}  {row.subject}  {row.text}"))
        self._shown |= now


class TerminalReporter:
    """The display for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(printable(line))

    def findings(self, findings: Sequence[Finding]) -> None:
        """Print the findings in colour, each with its reason and remedy."""
        for line in finding_lines(findings, colour=True):
            click.echo(line, err=True)

    @contextlib.contextmanager
    def busy(self, title: str) -> Iterator[None]:
        """Show a spinner, and remove it at the end."""
        with self._console.status(printable(title)):
            yield

    @contextlib.contextmanager
    def waiting(self, title: str) -> Iterator[ProgressTable]:
        """Show a table under a spinner; its last state stays on the terminal."""
        from rich.live import Live

        with Live(console=self._console, refresh_per_second=REFRESH_PER_SECOND) as live:
            yield _TableBoard(live, printable(title))


class _TableBoard:
    def __init__(self, live: Live, title: str) -> None:
        from rich.spinner import Spinner

        self._live = live
        self._spinner = Spinner("dots", text=title)
        self.show(())

    def show(self, rows: Sequence[Row], *, note: str = "") -> None:
        """Redraw the table with these rows."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for row in rows:
            mark = Text(_MARKS[row.mark], style=_COLOURS[row.mark])
            table.add_row(Text(" ").append(mark), Text(printable(row.subject)), Text(printable(row.text)))
        parts: list[RenderableType] = [self._spinner, table]
        if note:
            parts.append(Text(f"  {printable(note)}", style="dim"))
        self._live.update(Group(*parts))


def finding_lines(findings: Sequence[Finding], *, colour: bool = False) -> Iterator[str]:
    """Return the lines for preflight's findings: one for each, and below it the reason and the remedy."""
    width = max((len(str(one.check)) for one in findings), default=0)
    for one in findings:
        outcome = f"{one.outcome:<7}"
        if colour:
            outcome = click.style(outcome, fg=_OUTCOME_COLOURS[one.outcome])
        yield f"  {outcome}  {one.check:<{width}}  {printable(one.what)}"
        for label, words in (("why: ", one.why), ("do:  ", one.remedy)):
            if words:
                yield f"           {label}{printable(words)}"


def reporter(*, terminal: bool) -> LineReporter | TerminalReporter:
    """Return the display for stderr."""
    return TerminalReporter() if terminal else LineReporter()
