"""The results of `make bench` as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from bench.beside import pairs_as_json, pairs_as_table
from bench.measure import Results
from bench.rounds import Tally
from bench.serving import DEFAULT, VARIANTS
from bench.summary import Latency, Spread

GOAL_RATIO = 3.5
"""CPU of a quote, in bare signatures."""
GOAL_RESIDENT = 45 * 1000 * 1000
"""Bytes."""
GOAL_READY = 0.15
"""Seconds from exec() to readiness."""


def as_json(results: Results) -> dict[str, object]:
    """All of it; of calls and rounds the numbers that the table shows, and every round's."""

    def tally(of: Tally) -> dict[str, object]:
        return {
            "cpu_seconds": of.cpu_seconds,
            "ratios": of.ratios,
            "quotes_per_second": of.rates,
            "latency": asdict(of.latency),
        }

    idle = results.idle
    return {
        "plan": asdict(results.plan) | {"beside": results.plan.beside and str(results.plan.beside.source)},
        "machine": results.machine,
        "load_average": results.load_average,
        "signature": {
            "seconds": results.signature,
            "deterministic_seconds": results.deterministic_signature,
            "by_round": results.features.signatures,
        },
        "servers": {key: tally(of) for key, of in results.features.tallies.items()},
        "calls": {name: asdict(latency) for name, latency in results.calls.items()},
        "sequences": {name: asdict(latency) for name, latency in results.sequences.items()},
        "resident_bytes": {"ready": results.resident_at_start, "after_load": results.resident},
        "ready_seconds": asdict(results.ready),
        "idle": None
        if idle is None
        else {
            "connections": idle.held,
            "reopened": idle.reopened,
            "resident_bytes": idle.resident,
            "without": tally(idle.without),
            "beside": tally(idle.beside),
        },
        "verified": results.verified,
        "beside": pairs_as_json(results.pairs),
    }


def as_table(results: Results) -> str:
    """For people; medians of rounds, with the lowest and the highest."""
    return "\n".join(_lines(results)) + "\n" + pairs_as_table(results.pairs)


def _lines(results: Results) -> Iterator[str]:
    plan, machine = results.plan, results.machine
    default = results.features.tallies[DEFAULT]
    yield f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"
    yield f"load average {results.load_average[0]:.2f} before, {results.load_average[1]:.2f} after"
    yield ""
    yield "Goals"
    yield row(
        "server CPU per quote, in bare signatures", _ratio(default.ratio), goal(default.ratio.median, GOAL_RATIO, "x")
    )
    yield row(
        "resident memory", f"{results.resident / 1e6:.1f} MB", goal(results.resident / 1e6, GOAL_RESIDENT / 1e6, " MB")
    )
    yield row(
        "exec() to ready", _milliseconds(results.ready), goal(results.ready.median * 1e3, GOAL_READY * 1e3, " ms")
    )
    yield ""
    yield f"CPU per quote: {plan.clients} clients, a connection and a fresh report each"
    yield f"  {plan.rounds} rounds of {plan.quotes} quotes for each server: medians, and the cost beside another row"
    yield row("bare P-256 signature, random nonce", f"{results.signature * 1e6:.1f} us", "1x")
    yield row(
        "bare P-256 signature, RFC 6979, as quotes have it", f"{results.deterministic_signature * 1e6:.1f} us", ""
    )
    for variant in VARIANTS:
        tally = results.features.tallies.get(variant.key)
        if tally is None:
            yield row(variant.title, "not in this checkout", "")
            continue
        above = results.features.tallies.get(variant.above or "")
        yield row(variant.title, f"{tally.cpu.median * 1e6:.1f} us", _ratio(tally.ratio), _cost(tally, above))
    yield row("default: quotes per second on one core", f"{default.rate.median:.0f}", "")
    yield row(f"default: latency with {plan.clients} clients", latency_text(default.latency), "")
    yield from _idle_lines(results)
    yield ""
    yield "Latency of one client at a time (p50, p99, longest)"
    for name, latency in results.calls.items():
        yield row(name, latency_text(latency))
    for name, latency in results.sequences.items():
        yield row(f"whole sequence: {name}", latency_text(latency))
    yield ""
    yield f"{results.verified} quotes were verified in full; all carry the report that was sent, and verify."


def _idle_lines(results: Results) -> Iterator[str]:
    idle = results.idle
    yield ""
    if idle is None:
        yield "Beside idle connections: not measured, a peer of its own takes root"
        return
    yield f"Beside {idle.held} idle connections of another peer ({idle.reopened} were closed and reopened)"
    yield row("default, without them", f"{idle.without.cpu.median * 1e6:.1f} us", _ratio(idle.without.ratio))
    yield row(
        "with them",
        f"{idle.beside.cpu.median * 1e6:.1f} us",
        _ratio(idle.beside.ratio),
        _cost(idle.beside, idle.without),
    )
    yield row("latency without, with", latency_text(idle.without.latency), latency_text(idle.beside.latency))
    yield row("resident memory with them", f"{idle.resident / 1e6:.1f} MB")


def row(title: str, value: str, *more: str) -> str:
    """One line of a table."""
    return f"  {title:66}{value:>24}" + "".join(f"  {text:24}" for text in more).rstrip()


def _ratio(spread: Spread) -> str:
    return f"{spread.median:.2f}x ({spread.lowest:.2f} to {spread.highest:.2f})"


def _milliseconds(spread: Spread) -> str:
    return f"{spread.median * 1e3:.0f} ms ({spread.lowest * 1e3:.0f} to {spread.highest * 1e3:.0f})"


def goal(value: float, bound: float, unit: str, *, least: bool = False) -> str:
    """A goal, and whether a value met it; both in the same unit.

    Args:
        value: what was measured.
        bound: what it may be at most.
        unit: of both.
        least: it must be at least `bound` instead.
    """
    met = value >= bound if least else value <= bound
    return f"goal {bound:g}{unit}: {'met' if met else 'MISSED'}"


def _cost(tally: Tally, above: Tally | None) -> str:
    """The median over rounds of what it costs more than another server in the same round."""
    if above is None:
        return ""
    extra = Spread.of([mine - other for mine, other in zip(tally.ratios, above.ratios, strict=True)])
    return f"{extra.median:+.2f}x"


def latency_text(latency: Latency) -> str:
    """The median, the 99th percentile and the longest."""
    return f"{latency.p50 * 1e3:.2f} {latency.p99 * 1e3:.2f} {latency.longest * 1e3:.1f} ms"
