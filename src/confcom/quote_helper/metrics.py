"""What the quote helper counts. Label sets are closed: kinds of requests and AESM codes, never peers or enclaves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind

_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0)
"""Seconds: from a simulated quote (under a tenth of a millisecond) to Intel's client's patience (15 s)."""


class HelperMetrics:
    """The helper's metrics in a registry of its own; children are looked up once, since label lookups are not free."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "confcom_quote_helper_requests",
            "Requests answered, by kind and result (AESM's code in lower case)",
            ["request", "result"],
            registry=registry,
        )
        self._seconds = Histogram(
            "confcom_quote_helper_request_seconds",
            "From the whole request to its answer",
            ["request"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._dropped = Counter(
            "confcom_quote_helper_connections_dropped",
            "Connections closed without an answer, by reason",
            ["reason"],
            registry=registry,
        )
        self.connections = Gauge("confcom_quote_helper_connections", "Open connections", registry=registry)
        self.accepted = Counter("confcom_quote_helper_connections_accepted", "Connections made", registry=registry)
        self.ready = Gauge("confcom_quote_helper_ready", "1 when a whole quote has been made", registry=registry)
        self.self_tests_failed = Counter(
            "confcom_quote_helper_self_tests_failed", "Self-tests that made no quote", registry=registry
        )
        self._request_children: dict[tuple[MessageKind, int], Counter] = {}
        self._seconds_children: dict[MessageKind, Histogram] = {}
        for reason in ("malformed", "timeout", "shed", "stopping"):
            self._dropped.labels(reason)

    def answered(self, kind: MessageKind, code: int, seconds: float) -> None:
        """A request got its answer."""
        counter = self._request_children.get((kind, code))
        if counter is None:
            counter = self._requests.labels(kind.call, AesmErrorCode(code).name.lower())
            self._request_children[kind, code] = counter
        counter.inc()
        histogram = self._seconds_children.get(kind)
        if histogram is None:
            histogram = self._seconds_children[kind] = self._seconds.labels(kind.call)
        histogram.observe(seconds)

    def dropped(self, reason: str) -> None:
        """A connection was closed without an answer: malformed, timeout, shed, stopping."""
        self._dropped.labels(reason).inc()
