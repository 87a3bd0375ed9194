"""Rows of numbers, one number per round, as a table and as JSON, for every benchmark."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from bench.load import WrongAnswerError
from bench.machine import commit, describe_machine
from confcom.errors import ConfcomError, ExitCode, explain

RESULTS = Path(__file__).parent / "results"
TITLE, VALUE, OTHER = 66, 32, 18
"""Widths of columns."""
TOLERANCE = 1.25
"""Factor above which a goal is clearly missed. Every machine reproduces a miss by more than a quarter."""

T = TypeVar("T")

Measured = tuple[Sequence["Section"], Mapping[str, Any]]
"""Result of a benchmark: its sections and further JSON fields. The field `failures` is also printed."""


def in_turn(sides: Iterable[T], number: int) -> Sequence[T]:
    """Reverse the order in odd rounds, so that a drift of the machine's speed affects all sides."""
    return list(sides)[:: -1 if number % 2 else 1]


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """The highest allowed median, or the lowest allowed median if `least` is set."""

    bound: float
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.least else value <= self.bound

    def missed_by_far(self, value: float) -> bool:
        return value * TOLERANCE < self.bound if self.least else value > self.bound * TOLERANCE

    def text(self, unit: str) -> str:
        return f"at {'least' if self.least else 'most'} {self.bound:g} {unit}"


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    unit: str
    goal: Goal | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    left_out: str = ""
    """Reason why there are no values."""

    def ratio(self, side: str, other: str) -> Spread | None:
        """Ratios of the two sides' values, round by round; None if the sides cannot be compared."""
        mine, theirs = (self.values.get(each, []) for each in (side, other))
        if not mine or len(mine) != len(theirs) or not all(theirs):
            return None
        return Spread.of([each / its for each, its in zip(mine, theirs, strict=True)])


class Section:
    """Rows under one title; the other sides are compared with the first side, which has to meet the goals."""

    def __init__(self, title: str, sides: Sequence[str], goals: Mapping[str, Goal] | None = None) -> None:
        self.title = title
        self.sides = sides
        self.rows: dict[str, Row] = {}
        self._goals = goals or {}

    def add(self, side: str, title: str, unit: str, *values: float) -> None:
        row = self.rows.setdefault(title, Row(title, unit, self._goals.get(title)))
        row.values.setdefault(side, []).extend(values)

    def leave_out(self, title: str, unit: str, why: str) -> None:
        self.rows[title] = Row(title, unit, self._goals.get(title), left_out=f"did not run: {why}")

    def missed_by_far(self) -> Iterator[str]:
        for row in self.rows.values():
            values = row.values.get(self.sides[0])
            if row.goal is not None and values and row.goal.missed_by_far(Spread.of(values).median):
                yield f"{self.title}: {row.title}: {_spread(values, row.unit)}, goal {row.goal.text(row.unit)}"

    def as_json(self) -> dict[str, object]:
        rows = []
        for row in self.rows.values():
            ratios = {side: row.ratio(self.sides[0], side) for side in self.sides[1:]}
            goal = None if row.goal is None else {"bound": row.goal.bound, "least": row.goal.least}
            shown = {side: [each.median, each.lowest, each.highest] for side, each in ratios.items() if each}
            content = {"title": row.title, "unit": row.unit, "values": row.values, "left_out": row.left_out}
            rows.append({**content, "ratios": shown, "goal": goal})
        return {"title": self.title, "rows": rows}

    def as_table(self) -> str:
        """Table of medians, with the lowest and the highest round."""
        others = [side for side in self.sides[1:] if any(side in row.values for row in self.rows.values())]
        head = f"  {'':{TITLE}}{self.sides[0]:>{VALUE}}"
        lines = ["", self.title, head + "".join(f"{side:>{OTHER}}{'ratio':>{VALUE}}" for side in others)]
        lines += [f"  {row.title:{TITLE}}{self._cells(row, others)}".rstrip() for row in self.rows.values()]
        return "\n".join([*lines, ""])

    def _cells(self, row: Row, others: Sequence[str]) -> str:
        first = row.values.get(self.sides[0], [])
        cells = f"{_spread(first, row.unit) if first else row.left_out:>{VALUE}}"
        for side in others:
            values = row.values.get(side)
            ratio = row.ratio(self.sides[0], side)
            median = f"{_digits(Spread.of(values).median)} {row.unit}" if values else ""
            cells += f"{median:>{OTHER}}{_ratio(ratio) if ratio else '':>{VALUE}}"
        if row.goal is not None:
            verdict = "" if not first else ": met" if row.goal.met(Spread.of(first).median) else ": MISSED"
            cells += f"  goal {row.goal.text(row.unit)}{verdict}"
        return cells


def command_line(name: str, description: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark; the benchmark adds options for its own sizes."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    parser.add_argument("--goals", action="store_true", help="exit with 1 if a goal is missed by more than a quarter")
    return parser


def run(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], Measured]) -> int:
    """Measure, print tables, write the JSON (by default to a folder that git ignores); return the exit code.

    A missed goal is a failure only with --goals, since machines differ; a wrong answer is always a failure.
    """
    options, measured_commit = parser.parse_args(), commit()
    try:
        sections, details = measure(options)
    except WrongAnswerError as error:
        say(f"wrong answer, or none: {error}")
        return ExitCode.FAILED
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    machine = describe_machine()
    shown = ", ".join(f"{key} {value}" for key, value in machine.items())
    sys.stdout.write(f"{shown}; load average {os.getloadavg()[0]:.2f}\n")
    sys.stdout.write("".join(section.as_table() for section in sections))
    name = parser.prog.rpartition(" ")[2].rpartition(".")[2]
    path = options.output or RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "commit": measured_commit,
        "machine": machine,
        "sections": [section.as_json() for section in sections],
        **details,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(f"All values: {path}\n")
    missed = [line for section in sections for line in section.missed_by_far()] if options.goals else []
    failures = [*details.get("failures", ()), *missed]
    sys.stdout.write("".join(f"FAILED {line}\n" for line in failures))
    return ExitCode.FAILED if failures else ExitCode.OK


def say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


def _spread(values: Sequence[float], unit: str) -> str:
    spread = Spread.of(values)
    among = f" ({_digits(spread.lowest)} to {_digits(spread.highest)})" if len(values) > 1 else ""
    return f"{_digits(spread.median)} {unit}{among}"


def _ratio(ratio: Spread) -> str:
    return f"{ratio.median:.3f}x ({ratio.lowest:.2f} to {ratio.highest:.2f})"


def _digits(value: float) -> str:
    return f"{value:,.{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"
