"""The command line of `make soak`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import Cores, describe_machine
from bench.main import default_output
from bench.soak.run import SoakPlan, soak
from bench.soak.verdict import as_json, as_table, failures_of
from confcom.errors import ConfcomError, explain
from e2e.fortanix import build

SECONDS = 600.0
RATE = 5.0
"""Attestations per second of each replayed client: with all of them some hundred calls, which leaves most of the CPU to
those who misbehave."""


def main(arguments: Sequence[str]) -> int:
    """Soak, print what happened, write the JSON.

    Returns:
        0 if nothing failed, 1 if anything did, else what the error says (6: this is not root).
    """
    options = _parser().parse_args(arguments)
    try:
        program = None if options.without_program else _program()
        plan = SoakPlan(options.seconds, options.rate, program)
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="soak-") as directory:
            soaked = soak(plan, Path(directory), say=_say)
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    sys.stdout.write(as_table(plan, soaked))
    output = options.output or default_output("soak", datetime.now(UTC))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(as_json(plan, soaked, describe_machine(Cores.choose())), indent=1) + "\n")
    sys.stdout.write(f"All of it: {output}\n")
    return 1 if failures_of(soaked) else 0


def _program() -> Path | None:
    try:
        return build()
    except ConfcomError as error:
        _say(f"without Fortanix' program: {error}")
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Soak the quote helper on this machine.")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help=f"how long (default: {SECONDS:g})")
    parser.add_argument(
        "--rate",
        type=float,
        default=RATE,
        metavar="N",
        help=f"attestations per second of each replayed client (default: {RATE:g})",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    parser.add_argument("--without-program", action="store_true", help="leave out Fortanix' program, built with cargo")
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"soak: {line}\n")
    sys.stderr.flush()
