"""Every measurement of `make bench`, in one run on one machine."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.beside import Checkout, Pair, absent, megabytes, milliseconds
from bench.load import ENCLAVE, WrongAnswerError
from bench.machine import Cores, describe_machine, load_average, on_core, resident_bytes, seconds_per_signature
from bench.other_user import idle_connections
from bench.rounds import Rounds, Tally, in_turn, run_rounds
from bench.serving import (
    DEFAULT,
    FEATURES,
    VARIANTS,
    Bench,
    Server,
    Variant,
    beside_key,
    helper_of,
    seconds_to_ready,
    words_of,
)
from bench.summary import Latency, Spread
from testkit.replay.clients import FORTANIX, GRAMINE, INTEL_QUOTE_EX, OPEN_ENCLAVE, ClientSequence, ReplayedClient
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
    beside: Checkout | None = None
    """Whose quote helper is measured in the same rounds."""


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
    pairs: list[Pair]
    """Beside the other checkout; empty without one."""


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
    checkouts = [Checkout.this(), *([plan.beside] if plan.beside else [])]
    with on_core(cores.clients):
        ready = _starts(bench.place("startup"), checkouts, plan.starts, core=cores.server)
    missing = [{key: checkout.lacks(words_of(key, bench)) for key in FEATURES} for checkout in checkouts]
    variants = [variant for variant in VARIANTS if not missing[0].get(variant.key)]
    with on_core(cores.server):
        signature = seconds_per_signature(SIGNATURES)
        deterministic = seconds_per_signature(SIGNATURES, deterministic=True)
    with contextlib.ExitStack() as stack:
        servers = {}
        for variant in variants:
            servers[variant.key] = stack.enter_context(variant.start(bench))
            if plan.beside is not None and variant.key in FEATURES and not missing[1][variant.key]:
                # Next to it in each round, so that a machine whose speed drifts does so for both.
                servers[beside_key(variant.key)] = stack.enter_context(helper_of(variant.key, plan.beside)(bench))
        default = servers[DEFAULT]
        at_start = resident_bytes(default.pid)
        with on_core(cores.clients):
            say("single calls and whole sequences")
            sides = [servers[key] for key in (DEFAULT, beside_key(DEFAULT)) if key in servers]
            calls, sequences = (_by_rounds(times_of, sides, plan) for times_of in (single_calls, whole_sequences))
        say(f"{plan.rounds} rounds over {len(servers)} servers")
        features = run_rounds(servers, cores=cores, rounds=plan.rounds, quotes=plan.quotes, clients=plan.clients)
        resident = resident_bytes(default.pid)
    idle = None
    if os.geteuid() == 0:
        say(f"{plan.rounds} rounds beside {plan.idle} idle connections")
        idle = _beside_idle(plan, bench, cores)
    tallies = [*features.tallies.values(), *((idle.without, idle.beside) if idle else ())]
    pairs = []
    if plan.beside is not None:
        pairs = _feature_pairs(features, missing)
        pairs += _default_pairs(features.tallies[DEFAULT], features.tallies[beside_key(DEFAULT)], ready)
        pairs += [pair for times in (calls, sequences) for pair in _latency_pairs(times)]
    say("verifying the sample")
    return Results(
        plan=plan,
        machine=describe_machine(cores),
        load_average=(before, load_average()),
        signature=signature,
        deterministic_signature=deterministic,
        features=features,
        calls=_latencies(calls),
        sequences=_latencies(sequences),
        resident_at_start=at_start,
        resident=resident,
        ready=Spread.of(ready[0]),
        idle=idle,
        verified=verify_sample([kept for tally in tallies for kept in tally.sample], bench.state_dir),
        pairs=pairs,
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


Times = dict[str, list[float]]
"""Seconds of each repetition, by what was asked."""


def _starts(place: Path, checkouts: Sequence[Checkout], times: int, *, core: int) -> list[list[float]]:
    """Seconds of the starts of each checkout's helper, in turn."""
    for checkout in checkouts:
        seconds_to_ready(place, core=core, checkout=checkout)  # makes byte code
    taken: list[list[float]] = [[] for _ in checkouts]
    for number in range(times):
        for checkout, seconds in in_turn(list(zip(checkouts, taken, strict=True)), number):
            seconds.append(seconds_to_ready(place, core=core, checkout=checkout))
    return taken


def _by_rounds(times_of: Callable[[Path, int], Times], servers: Sequence[Server], plan: Plan) -> list[list[Times]]:
    """Times of each server, a dictionary for each round; servers take turns."""
    taken: list[list[Times]] = [[] for _ in servers]
    for number in range(plan.rounds):
        for server, rounds in in_turn(list(zip(servers, taken, strict=True)), number):
            rounds.append(times_of(server.socket, max(1, plan.repetitions // plan.rounds)))
    return taken


def _latencies(times: Sequence[Sequence[Times]]) -> dict[str, Latency]:
    """This checkout's, over all rounds."""
    return {name: Latency.of([value for each in times[0] for value in each[name]]) for name in times[0][0]}


def _latency_pairs(times: Sequence[Sequence[Times]]) -> list[Pair]:
    def medians(rounds: Sequence[Times], name: str) -> list[float]:
        return milliseconds(Latency.of(each[name]).p50 for each in rounds)

    ours, theirs = times
    return [Pair(f"{name}: p50", "ms", medians(ours, name), medians(theirs, name)) for name in ours[0]]


def _default_pairs(ours: Tally, theirs: Tally, ready: Sequence[Sequence[float]]) -> list[Pair]:
    return [
        Pair("exec() to ready", "ms", milliseconds(ready[0]), milliseconds(ready[1])),
        Pair("resident memory", "MB", megabytes(ours.resident), megabytes(theirs.resident)),
        Pair("default: quotes per second on one core", "/s", ours.rates, theirs.rates),
        Pair("default: p50 with all clients", "ms", milliseconds(ours.medians), milliseconds(theirs.medians)),
    ]


def _feature_pairs(features: Rounds, missing: Sequence[dict[str, list[str]]]) -> list[Pair]:
    def pair_of(variant: Variant) -> Pair:
        title, key = f"CPU per quote: {variant.title}", variant.key
        without = absent(title, missing[0][key], missing[1][key])
        if without is not None:
            return without
        ours, theirs = features.tallies[key], features.tallies[beside_key(key)]
        return Pair(title, "us", [each * 1e6 for each in ours.cpu_seconds], [each * 1e6 for each in theirs.cpu_seconds])

    return [pair_of(variant) for variant in VARIANTS if variant.key in FEATURES]


def single_calls(path: Path, repetitions: int) -> Times:
    """Every call of Intel's library, from before connect() to the end of the answer, by its name."""
    seconds = defaultdict(list)
    for _ in range(repetitions):
        # The second call of InitQuoteEx is the one that needs the provider, the second quote has qe_report_info.
        seen: set[str] = set()
        for exchange in _run(INTEL_QUOTE_EX, path):
            name = exchange.call.call
            seconds[f"{name}, with everything" if name in seen else name].append(exchange.seconds)
            seen.add(name)
    return seconds


def whole_sequences(path: Path, repetitions: int) -> Times:
    """A new process' calls up to its quote, without what the client and its enclave do in between."""
    return {
        sequence.name: [sum(exchange.seconds for exchange in _run(sequence, path)) for _ in range(repetitions)]
        for sequence in WHOLE
    }


def _run(sequence: ClientSequence, path: Path):  # type: ignore[no-untyped-def] # noqa: ANN202 # replay is not typed
    run = ReplayedClient(sequence, path).run()
    if run.failure:
        raise WrongAnswerError(f"{sequence.name}: {run.failure}")
    return run.exchanges
