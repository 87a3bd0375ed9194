"""`make fuzz`: inputs to the AESM session, to the socket of a live helper, and to each parser under atheris."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from confcom.errors import ExitCode
from fuzz import guided
from fuzz.targets import Tally, fuzz_helper, fuzz_session

PROCESSES: Final = 2
MIN_DECODED: Final = 0.5
"""Share of inputs that must reach a decoded message, else the campaign tests little but the framing."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="other inputs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs to the session (default: %(default)s)")
    parser.add_argument("--live-count", type=int, default=50_000, help="inputs to a socket (default: %(default)s)")
    parser.add_argument(
        "--parsers", nargs="*", choices=guided.NAMES, default=guided.NAMES, help="parsers to fuzz (default: all)"
    )
    parser.add_argument("--seconds", type=int, default=30, help="time for each parser (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, help="keep inputs of interest here for the next run (default: nowhere)")
    parser.add_argument(
        "--findings", type=Path, default=Path(".fuzz"), help="folder for inputs that break (default: %(default)s)"
    )
    asked = parser.parse_args(arguments)
    passed = True
    if asked.count:
        ends = [asked.first + asked.count * part // PROCESSES for part in range(PROCESSES + 1)]
        shares = [(asked.seed, range(*share)) for share in pairwise(ends) if share[0] < share[1]]
        with get_context("spawn").Pool(PROCESSES) as pool:
            passed = _report("session", pool.starmap(fuzz_session, shares))
    if asked.live_count:
        live = fuzz_helper(asked.seed, range(asked.first, asked.first + asked.live_count))
        passed = _report("live helper", [live]) and passed
    if asked.parsers and asked.seconds:
        run = partial(
            guided.run_target, seconds=asked.seconds, seed=asked.seed, corpus=asked.corpus, findings=asked.findings
        )
        passed = _fuzz_parsers(asked.parsers, run) and passed
    return ExitCode.OK if passed else ExitCode.FAILED


def _fuzz_parsers(names: Sequence[str], run: partial[guided.Outcome]) -> bool:
    if not guided.is_available():
        print("parsers: left out, since atheris is not installed; it exists for CPython 3.11 on x86-64 Linux")
        return True
    passed = True
    with ThreadPoolExecutor(PROCESSES) as pool:
        for outcome in pool.map(run, names):
            print(outcome, flush=True)
            passed = passed and not outcome.finding
    return passed


def _report(name: str, tallies: Sequence[Tally]) -> bool:
    outcomes = sum((tally.outcomes for tally in tallies), Counter[str]())
    wrong = {kind: text for tally in tallies for kind, text in tally.wrong.items()}
    decoded = sum(count for outcome, count in outcomes.items() if not outcome.startswith("closed"))
    if decoded < outcomes.total() * MIN_DECODED:
        wrong["decoded"] = "too few inputs reached a decoded message"
    print(f"{name}: {outcomes.total():,} inputs, {decoded:,} of them decoded")
    print("".join(f"{count:>10,} {outcome}\n" for outcome, count in outcomes.most_common()), end="")
    print("".join(f"WRONG: {text}\n" for text in wrong.values()) or "nothing is wrong", flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
