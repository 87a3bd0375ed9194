"""The results of the hardware providers as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from bench.beside import pairs_as_json, pairs_as_table
from bench.hardware.dcap import DcapResults
from bench.hardware.relay import RelayResults
from bench.summary import Latency, Spread
from bench.table import goal, latency_text, row

GOAL_ADDED_MS = 0.3
GOAL_THROUGHPUT = 95.0
"""Percent."""
GOAL_HOP_MS = 0.2
GOAL_REPLACED_MS = 300.0


def hardware_as_json(relay: RelayResults, dcap: DcapResults | None) -> dict[str, object]:
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
        "dcap": None if dcap is None else asdict(dcap) | {"hop": asdict(dcap.hop), "whole": asdict(dcap.whole)},
    }


def hardware_as_table(relay: RelayResults, dcap: DcapResults | None) -> str:
    """For people; medians of rounds, with the lowest and the highest."""
    return "\n".join((*_relay_lines(relay), "", *_dcap_lines(dcap))) + "\n" + pairs_as_table(relay.pairs)


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


def _dcap_lines(dcap: DcapResults | None) -> Iterator[str]:
    yield "Child with the DCAP libraries (stand-ins: 1.3 ms for a quote), beside calling these directly"
    if dcap is None:
        yield "  not measured: there is no C compiler (cc) to build the stand-ins"
        return
    yield row("the child adds to the median", _milliseconds(dcap.hop), goal(dcap.hop.median * 1e3, GOAL_HOP_MS, " ms"))
    yield row("the child and the checks of each quote", _milliseconds(dcap.whole))
    yield row(
        "SIGKILL for the child to the next quote",
        _milliseconds(dcap.replaced),
        goal(dcap.replaced.median * 1e3, GOAL_REPLACED_MS, " ms"),
    )


def _milliseconds(spread: Spread) -> str:
    return f"{spread.median * 1e3:.2f} ms ({spread.lowest * 1e3:.2f} to {spread.highest * 1e3:.2f})"
