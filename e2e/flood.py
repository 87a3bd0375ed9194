"""Load on a node's quote helper from a Pod, by the replayed clients of testkit.replay and the soak of bench/soak.

Runs in the sample workload's image with the checkout mounted and on PYTHONPATH. Prints JSON when it ends.

Usage: python -m e2e.flood steady|flood SECONDS [SOCKET]
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence

from bench.other_user import running_as
from bench.soak import misbehaving, well_behaved
from bench.summary import Latency

SOCKET = "/var/run/aesmd/aesm.socket"
STEADY_RATE = 2.0
"""Attestations per second of each of the replayed clients."""
FLOODERS = 4
"""Processes that attest in a loop, each as fast as it can: more than the helper's one core serves."""
NO_PAUSE_RATE = 1e6
"""Per second; nobody comes near it, so the next attestation is always due."""


def steady(seconds: float, path: str) -> dict[str, object]:
    """Attest as well-behaved applications do.

    Returns:
        What became of it: `attestations`, `failures` (texts), and `latency` of single calls in seconds.
    """
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                running_as(os.getuid(), name, well_behaved.work(well_behaved.replayed(name, path), STEADY_RATE))
            )
            for name in well_behaved.SEQUENCES
        ]
        time.sleep(seconds)
        tallies = [client.finish()["tally"] for client in clients]
    return {
        "attestations": sum(tally.attestations for tally in tallies),
        "failures": [text for tally in tallies for _, text in tally.failures],
        "latency": dataclasses.asdict(Latency.of([one for tally in tallies for one in tally.latencies])),
    }


def flood(seconds: float, path: str) -> dict[str, object]:
    """Ask for as many quotes as one can, of enclaves and of nothing; leaves the CPU to others.

    Returns:
        `attestations` and `connections` that there were.
    """
    name = next(iter(well_behaved.SEQUENCES))
    with contextlib.ExitStack() as stack:
        attesting = [
            stack.enter_context(
                running_as(
                    os.getuid(),
                    f"flooder {number}",
                    well_behaved.work(well_behaved.replayed(name, path), NO_PAUSE_RATE),
                    nice=misbehaving.NICE,
                )
            )
            for number in range(FLOODERS)
        ]
        flooding = stack.enter_context(
            running_as(os.getuid(), "flood", misbehaving.work("flood", path), nice=misbehaving.NICE)
        )
        time.sleep(seconds)
        for child in (*attesting, flooding):
            child.request_stop()
        attestations = sum(child.finish()["tally"].attestations for child in attesting)
        return {"attestations": attestations, "connections": flooding.finish()["connections"]}


def main(argv: Sequence[str]) -> int:
    """Run one of them."""
    kind, seconds, *path = argv
    result = {"steady": steady, "flood": flood}[kind](float(seconds), *path or [SOCKET])
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
