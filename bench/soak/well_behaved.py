"""Clients as they are: the replayed sequences, at a fixed rate, without any retry of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from bench.load import ENCLAVE
from bench.other_user import Work, stopped
from testkit.replay.clients import FORTANIX, GRAMINE, INTEL_QL_WRAPPER, INTEL_QUOTE_EX, OPEN_ENCLAVE, ReplayedClient

UID = 65_532
"""A user of no distribution."""
RATE = 5.0
"""Attestations per second of each client."""
ATTESTATIONS_PER_PROCESS = 40
"""Then a replayed client starts anew. Gramine keeps the target info of its start."""
SAMPLE_EVERY = 50
"""Of so many quotes one is verified in full; of all, it was checked that they are over their report."""
BACKLOG_FULL = "the backlog is full"
"""In the complaint of a client whose connect() failed with EAGAIN."""
SEQUENCES = {each.name: each for each in (INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, GRAMINE, FORTANIX)}


@dataclass(slots=True)
class Tally:
    """Attestations of one kind of client; times are of CLOCK_MONOTONIC, in seconds."""

    attestations: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    """The time at which each began, and the client's complaint."""
    renewals: list[float] = field(default_factory=list)
    """Beginnings of the attestations in which a client got 42 and called InitQuoteEx again."""
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """The beginning of the attestation and the seconds of each call."""
    sample: list[tuple[bytes, bytes]] = field(default_factory=list)


def _attesting(name: str, path: str) -> Callable[[Tally, float], None]:
    """One attestation of a client whose process lives for some attestations."""
    processes: list[ReplayedClient] = []
    left = 0

    def attest(tally: Tally, began: float) -> None:
        nonlocal left
        if not left:
            processes[:] = [ReplayedClient(SEQUENCES[name], path, enclave=ENCLAVE)]
            left = ATTESTATIONS_PER_PROCESS
            run = processes[0].run()
        else:
            run = processes[0].quote()
        left -= 1
        tally.latencies.extend((began, exchange.seconds) for exchange in run.exchanges)
        tally.renewals.extend([began] * run.renewals)
        if run.failure:
            tally.failures.append((began, run.failure))
            left = 0
        elif tally.attestations % SAMPLE_EVERY == 0:
            tally.sample.append(run.quotes[0])

    return attest


def work(name: str, path: str) -> Work:
    """Attest at a fixed rate, however long an attestation takes."""

    def run(parent: Connection) -> dict[str, Any]:
        attest, tally = _attesting(name, path), Tally()
        due = time.monotonic()
        while not stopped(parent, max(0.0, due - time.monotonic())):
            attest(tally, time.monotonic())
            tally.attestations += 1
            due += 1 / RATE
        return {"tally": tally}

    return run
