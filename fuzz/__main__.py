"""`make fuzz`: inputs to the AESM session in this process, and to the socket of a live helper."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing import get_context
from typing import Final

from confcom.errors import ExitCode
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
    asked = parser.parse_args(arguments)
    ends = [asked.first + asked.count * part // PROCESSES for part in range(PROCESSES + 1)]
    shares = [(asked.seed, range(*share)) for share in pairwise(ends) if share[0] < share[1]]
    with get_context("spawn").Pool(PROCESSES) as pool:
        passed = _report("session", pool.starmap(fuzz_session, shares))
    if asked.live_count:
        live = fuzz_helper(asked.seed, range(asked.first, asked.first + asked.live_count))
        passed = _report("live helper", [live]) and passed
    return ExitCode.OK if passed else ExitCode.FAILED


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
