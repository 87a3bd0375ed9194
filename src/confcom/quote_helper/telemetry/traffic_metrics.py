"""Counts for every connection and every answer: plain numbers, converted into metrics on each scrape.

A counter of prometheus_client takes a lock, and its histogram takes three: together 3 µs per answer, a seventh of the
time of a signature. Here only the event loop counts and collects, so that no lock is needed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind

BUCKETS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0)
"""Seconds: from a simulated quote (under 0.1 ms) to the time-out of Intel's client (15 s)."""
_BOUNDS: Final = (*map(floatToGoString, BUCKETS), "+Inf")


class _Answers:
    """All answers to one kind of request."""

    __slots__ = ("buckets", "results", "seconds")

    def __init__(self) -> None:
        self.results: dict[int, int] = {}
        """Counts by AESM's code."""
        self.buckets = [0] * len(_BOUNDS)
        """Counts by time; not cumulative."""
        self.seconds = 0.0


class TrafficMetrics(Collector):
    """Accepted connections, and answers with their times by kind and result; counted in the event loop."""

    __slots__ = ("_answers", "accepted")

    def __init__(self) -> None:
        self.accepted: Callable[[], int] = lambda: 0
        """Returns the number of connections accepted since the start."""
        self._answers: dict[MessageKind, _Answers] = {}

    def answered(self, kind: MessageKind, code: int, seconds: float) -> None:
        """Count an answer."""
        answers = self._answers.get(kind)
        if answers is None:
            answers = self._answers[kind] = _Answers()
        answers.results[code] = answers.results.get(code, 0) + 1
        answers.buckets[bisect_left(BUCKETS, seconds)] += 1
        answers.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """Return the current values."""
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
        accepted.add_metric([], self.accepted())
        yield from (requests, seconds, accepted)

    describe = collect
    """The registry learns the names from it."""
