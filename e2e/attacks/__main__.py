"""One attacker, for some time; prints what it did as JSON.

Usage: python -m e2e.attacks KIND SECONDS WHERE...

It needs the standard library, confcom as the sample workload's image has it, `testkit.replay.wire` and this package.
Each WHERE is attacked by a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from e2e.attacks.kinds import KINDS


def attack(kind: str, seconds: float, where: str) -> dict[str, int]:
    ends = time.monotonic() + seconds
    return dataclasses.asdict(KINDS[kind](where, lambda: time.monotonic() >= ends))


def main(argv: Sequence[str]) -> int:
    kind, seconds, *places = argv
    with ProcessPoolExecutor(len(places)) as pool:
        running = [pool.submit(attack, kind, float(seconds), where) for where in places]
        done = {where: one.result() for where, one in zip(places, running, strict=True)}
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
