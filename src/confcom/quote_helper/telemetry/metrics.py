"""The quote helper's metrics. Label sets are closed; no label names a client."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.daemon.readiness_log import NotReady
from confcom.quote_helper.transport.connections import DROP_REASONS

LOOP_LOOK_SECONDS: Final = 0.05
"""Between measurements of the event loop: a stall of 50 ms, which nothing may cause, meets at least one. Twenty
measurements a second cost under a thousandth of a CPU."""
_STALL_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: around the 10 ms of a full turn, and the 50 ms that is the most for which the loop may be blocked."""

BUCKETS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0)
"""Seconds: from a simulated quote (under 0.1 ms) to the time-out of Intel's client (15 s)."""
_BOUNDS: Final = (*map(floatToGoString, BUCKETS), "+Inf")


@dataclass(slots=True)
class _Answers:
    results: dict[int, int] = field(default_factory=dict)  # counts by AESM's code
    buckets: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))  # counts by time; not cumulative
    seconds: float = 0.0


class TrafficMetrics(Collector):
    """Accepted connections, and answers with their times by kind and result: plain numbers, converted on each scrape.

    A counter of prometheus_client takes a lock, and its histogram takes three: together 3 µs per answer, a seventh of
    the time of a signature. Here only the event loop counts and collects, so that no lock is needed.
    """

    __slots__ = ("_answers", "accepted")

    def __init__(self) -> None:
        self.accepted = 0
        """Number of connections since the start."""
        self._answers: dict[MessageKind, _Answers] = {}

    def answered(self, kind: MessageKind, code: int, seconds: float) -> None:
        answers = self._answers.get(kind)
        if answers is None:
            answers = self._answers[kind] = _Answers()
        answers.results[code] = answers.results.get(code, 0) + 1
        answers.buckets[bisect_left(BUCKETS, seconds)] += 1
        answers.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "confcom_quote_helper_requests",
            "Requests answered, by kind and result (AESM's code in lower case)",
            labels=["request", "result"],
        )
        seconds = HistogramMetricFamily(
            "confcom_quote_helper_request_seconds", "Time from the complete request to its answer", labels=["request"]
        )
        accepted = CounterMetricFamily("confcom_quote_helper_connections_accepted", "Connections made")
        for kind, answers in self._answers.items():
            for code, count in answers.results.items():
                requests.add_metric([kind.call, AesmErrorCode(code).name.lower()], count)
            counts = zip(_BOUNDS, accumulate(answers.buckets), strict=True)
            seconds.add_metric([kind.call], list(counts), answers.seconds)
        accepted.add_metric([], self.accepted)
        yield from (requests, seconds, accepted)

    describe = collect


class HelperMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        self.traffic = TrafficMetrics()
        registry.register(self.traffic)
        self._dropped = counter(
            "confcom_quote_helper_connections_dropped",
            f"Connections closed without an answer, by reason: {', '.join(DROP_REASONS)}",
            ["reason"],
        )
        self.connections = gauge("confcom_quote_helper_connections", "Open connections")
        self.unread = gauge(
            "confcom_quote_helper_unread_answers", "Open connections with an answer that the client has not read"
        )
        self.unread_memory = gauge(
            "confcom_quote_helper_unread_memory_bytes",
            "Memory of the kernel set aside for answers until they are read",
        )
        self.accepting_paused = counter(
            "confcom_quote_helper_accepting_paused", "Times that accepting connections was paused"
        )
        self.waiting = gauge("confcom_quote_helper_waiting", "Requests waiting for the quote provider or in the queue")
        self._ready = gauge("confcom_quote_helper_ready", "1 if the self-test passed and the helper owns the socket")
        self._not_ready = gauge(
            "confcom_quote_helper_not_ready_info",
            "1 for the code of the problem that keeps the helper from being ready",
            ["code"],
        )
        self.losses = counter("confcom_quote_helper_provider_losses", "Times that a working quote provider was lost")
        self._root = gauge(
            "confcom_quote_helper_simulated_root_info",
            "1 for the simulated root in use: SHA-256 of its certificate; the same on all nodes",
            ["sha256"],
        )
        self.loop_stall = Histogram(
            "confcom_quote_helper_loop_stall_seconds",
            "Delay of the event loop, sampled twenty times a second",
            buckets=_STALL_BUCKETS,
            registry=registry,
        )
        for reason in DROP_REASONS:
            self._dropped.labels(reason)

    def dropped(self, reason: str) -> None:
        self._dropped.labels(reason).inc()

    def readiness_changed(self, problem: NotReady | None) -> None:
        self._ready.set(problem is None)
        self._not_ready.clear()
        if problem is not None:
            self._not_ready.labels(problem.code).set(1)

    def quotes_by(self, root: str) -> None:
        """Set the simulated root by which quotes are made from now on; empty: none."""
        self._root.clear()
        if root:
            self._root.labels(root).set(1)


async def watch_loop(clock: Callable[[], float], late: Callable[[float], None]) -> None:
    """Sleep repeatedly, and report how many seconds late each wake-up was, until cancelled.

    A delay includes time in which the kernel ran other processes.
    """
    while True:
        due = clock() + LOOP_LOOK_SECONDS
        await asyncio.sleep(LOOP_LOOK_SECONDS)
        late(max(0.0, clock() - due))
