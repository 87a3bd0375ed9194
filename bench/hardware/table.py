"""The results of the relay as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from bench.beside import pairs_as_json, pairs_as_table
from bench.hardware.relay import RelayResults
from bench.summary import Latency, Spread
from bench.table import goal, latency_text, row

GOAL_ADDED_MS = 0.3
GOAL_THROUGHPUT = 95.0
"""Percent."""


def hardware_as_json(relay: RelayResults) -> dict[str, object]:
    """All of it, in seconds."""
    return {
        "relay": {
            "plan": asdict(relay.plan) | {"beside": relay.plan.beside and str(relay.plan.beside.source)},
            "direct": asdict(relay.direct),
            "relayed": asdict(relay.relayed),
            "added_seconds": asdict(relay.added),
            "passed": asdict(relay.passed),
            "pass_through_added_seconds": asdict(relay.floor),
            "above_pass_through_seconds": asdict(relay.above_floor),
            "throughput": asdict(relay.throughput),
            "beside": {name: asdict(latency) for name, latency in relay.beside.items()},
            "verified": relay.verified,
            "other_checkout": pairs_as_json(relay.pairs),
        },
    }


def hardware_as_table(relay: RelayResults) -> str:
    """For people; medians of rounds, with the lowest and the highest."""
    return "\n".join(_relay_lines(relay)) + "\n" + pairs_as_table(relay.pairs)


def _relay_lines(relay: RelayResults) -> Iterator[str]:
    yield "Relay to aesmd (a stand-in: 2.5 ms for a quote, one after the other), beside asking it directly"
    yield row(
        "asked directly: latency of one client (p50, p99, longest)", latency_text(Latency.of(relay.direct.latencies))
    )
    yield row("relayed", latency_text(Latency.of(relay.relayed.latencies)))
    yield row(
        "the relay adds to the median", _milliseconds(relay.added), goal(relay.added.median * 1e3, GOAL_ADDED_MS, " ms")
    )
    yield row("a relay that only passes bytes on adds", _milliseconds(relay.floor))
    yield row("the relay adds to that one's median", _milliseconds(relay.above_floor))
    share = Spread(*(100 * value for value in asdict(relay.throughput).values()))
    yield row(
        f"throughput with {relay.plan.clients} clients, in that of asking directly",
        f"{share.median:.1f} % ({share.lowest:.1f} to {share.highest:.1f})",
        goal(share.median, GOAL_THROUGHPUT, " %", least=True),
    )
    if not relay.beside:
        yield "  beside a peer that misbehaves: not measured, a peer of its own takes root"
    for name, latency in relay.beside.items():
        yield row(f"relayed, {name}", latency_text(latency))
    yield f"  {relay.verified} quotes were verified in full."


def _milliseconds(spread: Spread) -> str:
    return f"{spread.median * 1e3:.2f} ms ({spread.lowest * 1e3:.2f} to {spread.highest * 1e3:.2f})"
