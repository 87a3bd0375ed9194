"""The command line of `make soak`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.command_line import parser_of, say_as, write_results
from bench.machine import Cores, describe_machine
from bench.soak.run import SoakPlan, soak
from bench.soak.verdict import as_json, as_table, failures_of
from confcom.errors import ConfcomError, explain
from e2e.fortanix import build

SECONDS = 600.0
RATE = 5.0
"""Attestations per second of each replayed client: with all of them some hundred calls, which leaves most of the CPU to
those who misbehave."""
_say = say_as("soak")


def main(arguments: Sequence[str]) -> int:
    """Soak, print what happened, write the JSON.

    Returns:
        0 if nothing failed, 1 if anything did, else what the error says (6: this is not root).
    """
    numbers = (
        ("seconds", SECONDS, "how long"),
        ("rate", RATE, "attestations per second of each replayed client"),
    )
    parser = parser_of("bench.soak", "Soak the quote helper on this machine.", numbers)
    parser.add_argument("--without-program", action="store_true", help="leave out Fortanix' program, built with cargo")
    options = parser.parse_args(arguments)
    try:
        program = None if options.without_program else _program()
        plan = SoakPlan(options.seconds, options.rate, program)
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="soak-") as directory:
            soaked = soak(plan, Path(directory), say=_say)
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    sys.stdout.write(as_table(plan, soaked))
    write_results("soak", options.output, as_json(plan, soaked, describe_machine(Cores.choose())))
    return 1 if failures_of(soaked) else 0


def _program() -> Path | None:
    try:
        return build()
    except ConfcomError as error:
        _say(f"without Fortanix' program: {error}")
        return None
