"""Clients as they are: the replayed sequences and Fortanix' program, at a fixed rate, without any retry of ours."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.other_user import Work, stopped
from bench.soak.attacks import BACKLOG_FULL
from confcom.aesm.error_code import AesmErrorCode
from confcom.errors import ConfcomError
from confcom.simulation.enclave import SimulatedEnclave
from e2e.fortanix import quote_once
from testkit.replay.clients import FORTANIX, GRAMINE, INTEL_QL_WRAPPER, INTEL_QUOTE_EX, OPEN_ENCLAVE, ReplayedClient

UID = 65_532
"""A peer of their own, no user that a distribution has."""
ATTESTATIONS_PER_PROCESS = 40
"""Then a client starts anew. Between, Gramine keeps the target info that it asked for at its start."""
SAMPLE_EVERY = 50
"""Of that many quotes one is kept for verification in full; of all, it was checked that they are over their report."""
FORTANIX_PROGRAM = "Fortanix' program"
PROGRAM_RATE = 1.0
"""Attestations per second: each is a process of its own."""
PROGRAM_PATIENCE_SECONDS = 1.0
"""How long the program waits for each answer. It tells that by EAGAIN as well, but not before this time has passed."""

ENCLAVE = SimulatedEnclave.from_name("soak")
SEQUENCES = MappingProxyType(
    {sequence.name: sequence for sequence in (INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, GRAMINE, FORTANIX)}
)


@dataclass(slots=True)
class Tally:
    """What one kind of client went through; times are of CLOCK_MONOTONIC, in seconds."""

    attestations: int = 0
    calls: int = 0
    late: int = 0
    """Attestations that began more than a second after their time, because the one before took so long."""
    failures: list[tuple[float, str]] = field(default_factory=list)
    """When each began, and what the client would complain about."""
    renewals: list[float] = field(default_factory=list)
    """When the attestations began in which a client was told 42 and called InitQuoteEx again."""
    latencies: list[float] = field(default_factory=list)
    """Of each call; of Fortanix' program, whole runs."""
    moments: list[float] = field(default_factory=list)
    """When the attestation of each of these began."""
    sample: list[tuple[bytes, bytes]] = field(default_factory=list)


Attest = Callable[[Tally, float], None]
"""One attestation, tallied; given when it began."""


def replayed(name: str, path: str) -> Attest:
    """A replayed client, whose process lives for some attestations."""
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
        tally.calls += len(run.exchanges)
        tally.latencies.extend(exchange.seconds for exchange in run.exchanges)
        tally.moments.extend([began] * len(run.exchanges))
        tally.renewals.extend([began] * run.renewals)
        if run.failure:
            tally.failures.append((began, run.failure))
            left = 0
        elif tally.attestations % SAMPLE_EVERY == 0:
            tally.sample.append(run.quotes[0])

    return attest


def program(executable: Path, path: str) -> Attest:
    """Fortanix' program. It ends when it is told 42, and is then started again, which is counted."""

    def attest(tally: Tally, began: float) -> None:
        for _ in range(2):
            try:
                got = quote_once(executable, Path(path), enclave=ENCLAVE)
            except ConfcomError as error:
                if re.search(rf"_{AesmErrorCode.ATT_KEY_NOT_INITIALIZED.value}\b", error.why):
                    tally.renewals.append(began)
                    continue
                complaint = str(error)
                if f"os error {errno.EAGAIN}" in complaint:
                    at_once = time.monotonic() < began + PROGRAM_PATIENCE_SECONDS
                    complaint = f"{BACKLOG_FULL if at_once else 'no answer in time'}: {complaint}"
                tally.failures.append((began, complaint))
                return
            tally.latencies.append(time.monotonic() - began)
            tally.moments.append(began)
            if tally.attestations % SAMPLE_EVERY == 0:
                tally.sample.append((got.quote, got.report_data))
            return
        tally.failures.append((began, "told 42 twice"))

    return attest


def work(attest: Attest, rate: float) -> Work:
    """Attest at a fixed rate, whatever the last one took; its result is a Tally under "tally"."""

    def run(parent: Connection) -> dict[str, Any]:
        tally = Tally()
        due = time.monotonic()
        while not stopped(parent, max(0.0, due - time.monotonic())):
            began = time.monotonic()
            tally.late += began - due > 1.0
            attest(tally, began)
            tally.attestations += 1
            due += 1 / rate
        return {"tally": tally}

    return run
