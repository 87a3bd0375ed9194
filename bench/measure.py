"""Every measurement of `make bench`, in one run on one machine."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import ENCLAVE, WrongAnswerError
from bench.machine import Cores, describe_machine, load_average, on_core, resident_bytes, seconds_per_signature
from bench.other_user import idle_connections
from bench.rounds import Rounds, Tally, run_rounds
from bench.serving import DEFAULT, FEATURES, VARIANTS, Bench, beside_key, helper_of, seconds_to_ready
from bench.summary import Latency, Spread
from testkit.replay.model import ClientSequence
from testkit.replay.sequences import FORTANIX, GRAMINE, INTEL_QUOTE_EX, OPEN_ENCLAVE, ReplayedClient
from testkit.replay.verification import QuoteVerifier

IDLE = "idle"
"""The key of the default configuration, but for a higher cap and longer deadlines, with idle connections."""
IDLE_ROOM = 2000
"""Places for connections besides the idle ones: more than there are clients."""
IDLE_SECONDS = 3600.0
"""Deadlines of the helper that bears the idle ones: longer than it runs."""
SIGNATURES = 5000
"""Of each kind, for the table: an eighth of a second."""
WHOLE: Sequence[ClientSequence] = (OPEN_ENCLAVE, GRAMINE, FORTANIX)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 7
    quotes: int = 4000
    """For each server and round: about half a second."""
    clients: int = 64
    repetitions: int = 500
    """Of single calls and of sequences."""
    starts: int = 10
    idle: int = 10_000
    beside: Path | None = None
    """Another checkout, whose quote helper is measured in the same rounds."""


@dataclass(frozen=True, slots=True)
class IdleResult:
    """Beside idle connections, and without them in the same rounds."""

    without: Tally
    beside: Tally
    held: int
    """Idle connections that the helper still had at the end."""
    reopened: int
    resident: int
    """Bytes, with the idle connections."""


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured; times are seconds, memory is bytes."""

    plan: Plan
    machine: dict[str, object]
    load_average: tuple[float, float]
    """Before and after."""
    signature: float
    deterministic_signature: float
    features: Rounds
    calls: dict[str, Latency]
    sequences: dict[str, Latency]
    resident_at_start: int
    resident: int
    """After all its work."""
    ready: Spread
    idle: IdleResult | None
    """None: not measured, for lack of root."""
    verified: int
    """Quotes that were verified in full; one that does not verify ends the benchmark."""


def measure(plan: Plan, directory: Path, *, say: Callable[[str], None]) -> Results:
    """Measure all of it.

    Raises:
        WrongAnswerError: a server gave an answer that is none, or a quote that does not verify.
    """
    cores = Cores.choose()
    before = load_average()
    directory.chmod(0o755)  # the idle peer is another user
    bench = Bench.create(directory, cores.server)
    say("the time to readiness")
    started = bench.place("startup")
    with on_core(cores.clients):
        seconds_to_ready(started, core=cores.server)  # makes platform and byte code
        ready = Spread.of([seconds_to_ready(started, core=cores.server) for _ in range(plan.starts)])
    with on_core(cores.server):
        signature = seconds_per_signature(SIGNATURES)
        deterministic = seconds_per_signature(SIGNATURES, deterministic=True)
    with contextlib.ExitStack() as stack:
        servers = {}
        for variant in VARIANTS:
            servers[variant.key] = stack.enter_context(variant.start(bench))
            if plan.beside is not None and variant.key in FEATURES:
                # Next to it in each round, so that a machine whose speed drifts does so for both.
                servers[beside_key(variant.key)] = stack.enter_context(helper_of(variant.key, plan.beside)(bench))
        default = servers[DEFAULT]
        at_start = resident_bytes(default.pid)
        with on_core(cores.clients):
            say("single calls and whole sequences")
            calls = single_calls(default.socket, plan.repetitions)
            sequences = whole_sequences(default.socket, plan.repetitions)
        say(f"{plan.rounds} rounds over {len(servers)} servers")
        features = run_rounds(servers, cores=cores, rounds=plan.rounds, quotes=plan.quotes, clients=plan.clients)
        resident = resident_bytes(default.pid)
    idle = None
    if os.geteuid() == 0:
        say(f"{plan.rounds} rounds beside {plan.idle} idle connections")
        idle = _beside_idle(plan, bench, cores)
    tallies = [*features.tallies.values(), *((idle.without, idle.beside) if idle else ())]
    say("verifying the sample")
    return Results(
        plan=plan,
        machine=describe_machine(cores),
        load_average=(before, load_average()),
        signature=signature,
        deterministic_signature=deterministic,
        features=features,
        calls=calls,
        sequences=sequences,
        resident_at_start=at_start,
        resident=resident,
        ready=ready,
        idle=idle,
        verified=verify_sample([kept for tally in tallies for kept in tally.sample], bench.state_dir),
    )


def _beside_idle(plan: Plan, bench: Bench, cores: Cores) -> IdleResult:
    limits = {
        "max_connections": plan.idle + IDLE_ROOM,
        "first_byte_seconds": IDLE_SECONDS,
        "whole_request_seconds": IDLE_SECONDS,
    }
    with (
        bench.helper("without-idle") as without,
        bench.helper(IDLE, limits=limits) as beside,
        idle_connections(beside.socket, plan.idle, core=cores.clients) as peer,
    ):
        rounds = run_rounds(
            {DEFAULT: without, IDLE: beside},
            cores=cores,
            rounds=plan.rounds,
            quotes=plan.quotes,
            clients=plan.clients,
        )
        held = int(beside.metric("confcom_quote_helper_connections"))
        resident = resident_bytes(beside.pid)
        reopened = int(peer.finish()["reopened"])
    return IdleResult(rounds.tallies[DEFAULT], rounds.tallies[IDLE], held, reopened, resident)


def verify_sample(sample: Sequence[tuple[bytes, bytes]], state_dir: Path) -> int:
    """Verify quotes with their report data; return how many there were.

    Raises:
        WrongAnswerError: one does not verify.
    """
    verifier = QuoteVerifier(state_dir)
    for quote, report_data in sample:
        verdict = verifier.verify(quote, ENCLAVE, report_data)
        if not verdict.ok:
            raise WrongAnswerError(f"a quote does not verify: {verdict.failures}")
    return len(sample)


def single_calls(path: Path, repetitions: int) -> dict[str, Latency]:
    """Every call of Intel's library, from before connect() to the end of the answer, by its name."""
    seconds = defaultdict(list)
    for _ in range(repetitions):
        # The second call of InitQuoteEx is the one that needs the provider, the second quote has qe_report_info.
        seen: set[str] = set()
        for exchange in _run(INTEL_QUOTE_EX, path):
            name = exchange.call.call
            seconds[f"{name}, with everything" if name in seen else name].append(exchange.seconds)
            seen.add(name)
    return {name: Latency.of(values) for name, values in seconds.items()}


def whole_sequences(path: Path, repetitions: int) -> dict[str, Latency]:
    """A new process' calls up to its quote, without what the client and its enclave do in between."""
    return {
        sequence.name: Latency.of(
            [sum(exchange.seconds for exchange in _run(sequence, path)) for _ in range(repetitions)]
        )
        for sequence in WHOLE
    }


def _run(sequence: ClientSequence, path: Path):  # type: ignore[no-untyped-def] # noqa: ANN202 # replay is not typed
    run = ReplayedClient(sequence, path).run()
    if run.failure:
        raise WrongAnswerError(f"{sequence.name}: {run.failure}")
    return run.exchanges
