"""`python -m fuzz`: the campaigns of docs/how-to/fuzz.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from confcom.errors import ConfcomError, ExitCode
from fuzz.campaign import Plan, run_session_campaign
from fuzz.inputs import Input
from fuzz.live_target import run_live_campaign
from fuzz.oracle import Finding
from fuzz.report import json_line, passed, table
from fuzz.session_target import SessionTarget

DEFAULT_SEED: Final = 1
DEFAULT_COUNT: Final = 1_000_000
DEFAULT_LIVE_COUNT: Final = 50_000
DEFAULT_PROCESSES: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 0 if nothing was found."""
    asked = _parser().parse_args(arguments)
    if asked.replay is not None:
        return _replay(asked.replay)
    tallies = []
    if asked.count:
        tallies.append(run_session_campaign(Plan(asked.seed, 0, asked.count, asked.seconds), asked.processes))
        print(table(tallies[-1]), flush=True)
    if asked.live_count:
        tallies.append(run_live_campaign(Plan(asked.seed, 0, asked.live_count, asked.seconds)))
        print(table(tallies[-1]), flush=True)
    print(json_line(tallies))
    return ExitCode.OK if all(map(passed, tallies)) else ExitCode.FAILED


def _replay(text: str) -> int:
    with SessionTarget() as target:
        try:
            (result,) = target.run([Input.parse(text)])
        except ConfcomError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    if isinstance(result, Finding):
        print(f"WRONG: {result.rule}\n  {result.detail}")
        return ExitCode.FAILED
    print(result)
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description="Fuzz the AESM session and a live quote helper."
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="other inputs (default: %(default)s)")
    parser.add_argument(
        "--count", type=int, default=DEFAULT_COUNT, help="inputs in process (default: %(default)s; 0: none)"
    )
    parser.add_argument(
        "--live-count", type=int, default=DEFAULT_LIVE_COUNT, help="inputs to a socket (default: %(default)s; 0: none)"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each of the two, at most")
    parser.add_argument(
        "--processes",
        type=int,
        default=DEFAULT_PROCESSES,
        help="that share the inputs in process (default: %(default)s)",
    )
    parser.add_argument("--replay", metavar="INPUT", help="one input in process, as a finding shows it")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
