"""The server's observer: metrics and log lines about the socket's clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.quote_helper.telemetry.metrics import HelperMetrics
from confcom.quote_helper.telemetry.quote_log import QuoteLog
from confcom.quote_helper.transport.peers import Peer
from confcom.quote_provider.base import QuoteProvider

_logger = logging.getLogger(__name__)

_SUCCESS: Final = AesmErrorCode.SUCCESS  # looking up the enum member takes 0.1 µs

TICK_SECONDS: Final = 1.0
"""How often counts are checked for summaries that are due; a minute's summary is at most this late."""
MAX_PODS: Final = 512
"""Pods with their own series; a kubelet runs 110 by default, and at most 500 in practice. Further pods share one."""
POD_AWAY_SECONDS: Final = 900.0
"""After this time without requests a pod loses its series: three times as long as Prometheus looks back for a value."""
EXPIRY_SECONDS: Final = 60.0
"""How often the provider is asked for expiry dates, which change within days."""
OTHER_PODS: Final = "other"
"""The label of pods beyond MAX_PODS; it cannot be a UID."""


class Observations:
    """An Observer that passes events to metrics and log; `run` must run beside the server."""

    def __init__(
        self,
        *,
        metrics: HelperMetrics,
        pods: PodMetrics,
        log: QuoteLog,
        expiry: ExpiryMetrics,
    ) -> None:
        self._metrics = metrics
        self._traffic = metrics.traffic
        self._pods = pods
        self._log = log
        self.expiry = expiry

    async def run(self) -> None:
        """Run the periodic work until cancelled."""
        while True:
            self._pods.tick()
            self._log.tick()
            self.expiry.tick()
            await asyncio.sleep(TICK_SECONDS)

    def close(self) -> None:
        """Log the remaining counts."""
        self._log.close()

    def accepted(self, count: int) -> None:
        """Record accepted connections."""
        self._traffic.accepted += count

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Record an answer."""
        self._traffic.answered(request.kind, response.error_code, seconds)
        self._pods.answered(peer.pod, succeeded=response.error_code == _SUCCESS)
        self._log.answered(peer, request, response, seconds)

    def dropped(self, peer: Peer, reason: str) -> None:
        """Record a connection that was closed without an answer."""
        del peer  # no label names one
        self._metrics.dropped(reason)

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        """Record input that is not an AESM request."""
        self._log.malformed(peer, violation)

    def accepting_paused(self, reason: str) -> None:
        """Record a pause in accepting."""
        self._metrics.accepting_paused.inc()
        self._log.accepting_paused(reason)


class _Pod:
    __slots__ = ("failures", "last_seen", "successes")

    def __init__(self, last_seen: float) -> None:
        self.successes = 0
        self.failures = 0
        self.last_seen = last_seen


class PodMetrics(Collector):
    """Requests by pod, for a bounded number of pods with recent requests. Counted in the event loop."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now = clock()
        """As of the last tick."""
        self._pods: dict[str, _Pod] = {}
        self._unknown = _Pod(self._now)
        self._others = _Pod(self._now)
        registry.register(self)

    def answered(self, pod: str, *, succeeded: bool) -> None:
        """Count an answer to a pod's request."""
        counts = self._pods.get(pod)
        if counts is None:
            counts = self._admit(pod)
        counts.last_seen = self._now
        if succeeded:
            counts.successes += 1
        else:
            counts.failures += 1

    def tick(self) -> None:
        """Remove the pods without requests for POD_AWAY_SECONDS."""
        self._now = self._clock()
        for pod, counts in list(self._pods.items()):
            if self._now - counts.last_seen >= POD_AWAY_SECONDS:
                del self._pods[pod]

    def collect(self) -> Iterator[Metric]:
        """Return the current values."""
        family = CounterMetricFamily(
            "confcom_quote_helper_pod_requests",
            "Answers, by the pod's UID (empty: unknown; other: pods beyond the limit), and success or failure",
            labels=["pod", "outcome"],
        )
        for pod, counts in (("", self._unknown), (OTHER_PODS, self._others), *self._pods.items()):
            family.add_metric([pod, "success"], counts.successes)
            family.add_metric([pod, "failure"], counts.failures)
        yield family

    describe = collect
    """The registry learns the name from it."""

    def _admit(self, pod: str) -> _Pod:
        if not pod:
            return self._unknown
        if len(self._pods) >= MAX_PODS:
            return self._others
        counts = self._pods[pod] = _Pod(self._now)
        return counts


class ExpiryMetrics:
    """Expiry dates of certificates and collateral, as far as the provider knows them."""

    def __init__(self, registry: CollectorRegistry, wall_clock: Callable[[], float]) -> None:
        self._expiry = Gauge(
            "confcom_quote_helper_expiry_timestamp_seconds",
            "Expiry of the pck_certificate, or of the current collateral for verifiers, in seconds since the epoch",
            ["what"],
            registry=registry,
        )
        self._wall_clock = wall_clock
        self._provider: QuoteProvider | None = None
        self._due = 0.0

    def watch(self, provider: QuoteProvider) -> None:
        """Show the dates of this provider from now on, if it knows any."""
        self._due = 0.0
        self._provider = provider

    def tick(self) -> None:
        """Ask the provider, if it is time; after a failure it is asked again later, and the last dates stay."""
        seconds = self._wall_clock()
        # If the wall clock was set back, the provider is asked now, not only when `_due` is reached.
        if self._provider is None or 0 < self._due - seconds <= EXPIRY_SECONDS:
            return
        self._due = seconds + EXPIRY_SECONDS
        try:
            expiries = self._provider.expiries(datetime.fromtimestamp(seconds, UTC))
        except Exception:
            _logger.exception("the quote provider does not report the expiry of its certificates")
            return
        for what, end in expiries.items():
            self._expiry.labels(what.value).set(end.timestamp())
