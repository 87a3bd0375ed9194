"""A verifier with two workers, beside one process that verifies without workers, on all cores.

The callers run in the process of the verifier, as the requests of a web service do, so that they cost it time.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bench.load import WrongAnswerError
from bench.machine import Checkout
from bench.report import Goal, Section, in_turn, say
from confcom.collateral import Source
from confcom.service import QuoteVerifier
from confcom.testing import Attestation
from confcom.verify import verify
from testkit.collateral_service import answers_of, serving

VERIFICATIONS = 1600
"""Number of verifications of each side in a round: about a second."""
CALLERS = 16
WORKERS = 2
VERIFIER, BARE = "QuoteVerifier, 2 workers", "verify, one process"
RATE = f"verifications per second, {CALLERS} callers"
FACTOR = "the rate of one process without workers, times"
ADDED = "added to the median of one caller"
GOALS = {FACTOR: Goal(1.5, least=True), ADDED: Goal(1.0)}


def measure_service(sides: Mapping[str, Checkout], rounds: int, directory: Path) -> list[Section]:
    del sides  # another checkout may lack this package
    section = Section("Verification in a service, on two cores", [VERIFIER, BARE], GOALS)
    made = Attestation.create()
    evidence, policy = made.quote(b"challenge"), made.policy(b"challenge")
    prepared = evidence.collateral.prepared(evidence.root, datetime.now(UTC))

    def one_process() -> tuple[float, float]:
        """The rate, and the median of one verification in seconds."""
        took = []
        for _ in range(VERIFICATIONS):
            began = time.perf_counter()
            verify(evidence.quote, policy, prepared).require_ok()
            took.append(time.perf_counter() - began)
        return VERIFICATIONS / sum(took), statistics.median(took)

    async def workers(verifier: QuoteVerifier) -> tuple[float, float]:
        """The rate with all callers, and the median of one caller's verifications in seconds."""

        async def caller(calls: int) -> list[float]:
            took = []
            for _ in range(calls):
                began = time.perf_counter()
                (await verifier.verify(evidence.quote)).require_ok()
                took.append(time.perf_counter() - began)
            return took

        began = time.perf_counter()
        await asyncio.gather(*(caller(VERIFICATIONS // CALLERS) for _ in range(CALLERS)))
        rate = VERIFICATIONS / (time.perf_counter() - began)
        return rate, statistics.median(await caller(VERIFICATIONS // CALLERS))

    async def measure(url: str) -> None:
        source, cache = Source(url), directory / "cache"
        async with QuoteVerifier(policy, source, directory=cache, root=evidence.root, processes=WORKERS) as verifier:
            if (await verifier.verify(evidence.quote, report_data=bytes(64))).ok:
                raise WrongAnswerError("a replayed quote is accepted")
            for number in range(rounds):
                say(f"service: round {number + 1} of {rounds}")
                results = {}
                for side in in_turn((VERIFIER, BARE), number):
                    results[side] = one_process() if side is BARE else await workers(verifier)
                    section.add(side, RATE, "", results[side][0])
                    section.add(side, "median of one caller", "ms", results[side][1] * 1e3)
                section.add(VERIFIER, FACTOR, "x", results[VERIFIER][0] / results[BARE][0])
                section.add(VERIFIER, ADDED, "ms", (results[VERIFIER][1] - results[BARE][1]) * 1e3)

    with serving(answers_of(evidence.collateral)) as (_, url):
        asyncio.run(measure(url))
    return [section]
