"""The quote helper: a quote's CPU in units of bare signatures, latency, memory, and start time."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import bare
from bench.bare import BareInterpreter
from bench.load import Latency, WrongAnswerError, prepare, serve_all, target_of
from bench.machine import OTHER, THIS, Checkout, Cores, cpu_when_idle, on_core, resident_bytes, seconds_per_signature
from bench.report import Goal, Section, in_turn, say
from bench.serving import Place, Server, verify_sample
from testkit.replay.clients import (
    FORTANIX,
    GRAMINE,
    INTEL_QUOTE_EX,
    OPEN_ENCLAVE,
    ClientSequence,
    Exchange,
    ReplayedClient,
)

QUOTES, CLIENTS = 4000, 64
"""Number of quotes that each server makes in each round; they take about half a second."""
CALLS = 70
"""How often each kind of single call, and each whole sequence, is measured in a round."""
SIGNATURES = 1000
"""Number of signatures that measure the CPU unit before and after each server; they take 25 ms."""

CPU, MEMORY, START = "CPU per quote", "resident memory", "exec() to ready"
DEFAULT = "default"
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "only errors are logged": ("--log-level", "error"),
    DEFAULT: (),
    "default, and a log line for every quote": ("--log-quotes-per-peer", "60000"),
    "default, and --identify-pods": ("--identify-pods",),
}
"""Flags of quote helpers that differ by one feature."""
WHOLE: Sequence[ClientSequence] = (OPEN_ENCLAVE, GRAMINE, FORTANIX)

GOALS = {f"{CPU}: {DEFAULT}": Goal(3.5), **bare.GOALS}


def measure_helper(sides: Mapping[str, Checkout], rounds: int, directory: Path) -> list[Section]:
    cores = Cores()
    place = Place.create(directory, cores.server)
    section = Section(f"Quote helper: {QUOTES} quotes by {CLIENTS} clients in each round", [THIS, OTHER], GOALS)
    say(f"{rounds} starts")
    interpreters, resident = dict[str, BareInterpreter](), dict[str, int]()
    with on_core(cores.clients):
        for side, checkout in sides.items():  # the first start compiles byte code, which images contain
            with place.helper(f"start-{len(side)}", checkout.with_import_times()) as server:
                log = server.log
            interpreters[side] = BareInterpreter.of(log, checkout, directory, cores.server)
            interpreters[side].start()
        for number in range(rounds):
            for side, checkout in in_turn(sides.items(), number):
                with place.helper(f"start-{len(side)}-{number}", checkout) as server:
                    section.add(side, START, "ms", server.start_seconds * 1e3)
                seconds, resident[side] = interpreters[side].start()
                section.add(side, bare.START, "x", server.start_seconds / seconds)
    sample: list[tuple[bytes, bytes]] = []
    with contextlib.ExitStack() as stack:
        servers = {  # servers with the same title run one after the other in each round
            (side, title): stack.enter_context(place.helper(f"{len(side)}-{number}", checkout, *flags))
            for number, (title, flags) in enumerate(VARIANTS.items())
            for side, checkout in sides.items()
        }
        defaults = {side: servers[side, DEFAULT] for side in sides}
        with on_core(cores.clients):
            for number in range(rounds):
                say(f"round {number + 1} of {rounds} over {len(servers)} servers")
                for side, server in in_turn(defaults.items(), number):
                    _time_calls(section, side, server)
                sample += _load(section, in_turn(servers.items(), number), cores)
                for side, server in defaults.items():
                    section.add(side, bare.MEMORY, "x", resident_bytes(server.pid) / resident[side])
    say(f"verifying {len(sample)} quotes")
    verify_sample(sample, place.state_dir)
    return [section]


def _load(
    section: Section, servers: Sequence[tuple[tuple[str, str], Server]], cores: Cores
) -> Iterator[tuple[bytes, bytes]]:
    """Run one round; measure a signature before and after each server; yield quotes to be verified."""
    before = _signature(cores)
    for (side, title), server in servers:
        prepared = prepare(*target_of(server.socket), QUOTES)
        used = cpu_when_idle(server.pid)
        served = serve_all(server.socket, prepared, clients=CLIENTS)
        used = cpu_when_idle(server.pid) - used
        after = _signature(cores)
        section.add(side, f"{CPU}: {title}", "signatures", used / QUOTES / (before + after) * 2)
        before = after
        if side == THIS:  # another checkout may store its simulated root in another way
            yield from served.sample
        if title == DEFAULT:
            latency = Latency.of(served.latencies)
            section.add(side, "quotes per second on one core", "/s", QUOTES / served.seconds)
            section.add(side, f"p50 with {CLIENTS} clients", "ms", latency.p50 * 1e3)
            section.add(side, f"p99 with {CLIENTS} clients", "ms", latency.p99 * 1e3)
            section.add(side, f"longest with {CLIENTS} clients", "ms", latency.longest * 1e3)
            section.add(side, MEMORY, "MB", resident_bytes(server.pid) / 1e6)


def _signature(cores: Cores) -> float:
    with on_core(cores.server):
        return seconds_per_signature(SIGNATURES)


def _time_calls(section: Section, side: str, server: Server) -> None:
    """Measure calls (from before connect() to the answer's end) and attestations, one client at a time."""
    seconds = defaultdict(list)
    for _ in range(CALLS):
        # The second InitQuoteEx call needs the provider, and the second quote has qe_report_info.
        known: set[str] = set()
        for exchange in _run(INTEL_QUOTE_EX, server.socket):
            name = exchange.call.call
            seconds[f"{name}, with everything" if name in known else name].append(exchange.seconds)
            known.add(name)
        for sequence in WHOLE:
            exchanges = _run(sequence, server.socket)
            seconds[f"whole sequence: {sequence.name}"].append(sum(exchange.seconds for exchange in exchanges))
    for name, values in seconds.items():
        section.add(side, f"p50 of one client: {name}", "ms", Latency.of(values).p50 * 1e3)


def _run(sequence: ClientSequence, path: Path) -> Sequence[Exchange]:
    run = ReplayedClient(sequence, path).run()
    if run.failure:
        raise WrongAnswerError(f"{sequence.name}: {run.failure}")
    return list(run.exchanges)
