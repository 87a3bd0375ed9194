"""The command line of `make bench`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.load import WrongAnswerError
from bench.measure import Plan, measure
from bench.table import as_json, as_table

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON. Missed goals are shown, and are no failure: machines differ.

    Returns:
        1 if a server gave a wrong answer, else 0.
    """
    options = _parser().parse_args(arguments)
    plan = Plan(
        rounds=options.rounds,
        quotes=options.quotes,
        repetitions=options.repetitions,
        starts=options.starts,
        idle=options.idle,
    )
    try:
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
            results = measure(plan, Path(directory), say=_say)
    except WrongAnswerError as error:
        _say(f"wrong answer: {error}")
        return 1
    sys.stdout.write(as_table(results))
    output = options.output or default_output("bench", datetime.now(UTC))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(as_json(results), indent=1) + "\n")
    sys.stdout.write(f"All of it: {output}\n")
    return 0


def default_output(name: str, now: datetime) -> Path:
    """Where results go that nobody named a file for; git ignores it."""
    return RESULTS / f"{name}-{now:%Y%m%d-%H%M%S}.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the quote helper on this machine.")
    usual = Plan()
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    for name, default, text in (
        ("rounds", usual.rounds, "rounds over all servers"),
        ("quotes", usual.quotes, "quotes of each server in each round"),
        ("repetitions", usual.repetitions, "of single calls and of whole sequences"),
        ("starts", usual.starts, "starts that are timed"),
        ("idle", usual.idle, "idle connections"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()
