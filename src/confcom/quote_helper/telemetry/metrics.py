"""The quote helper's metrics. Label sets are closed: kinds of requests and AESM codes, never peers or enclaves."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confcom.aesm.messages import Request, Response
from confcom.quote_helper.limits import DROP_REASONS
from confcom.quote_helper.quoting.provider_state import ProviderPhase, ProviderStatus
from confcom.quote_helper.telemetry.traffic_metrics import TrafficMetrics
from confcom.quote_helper.transport.peers import Peer

_STALL_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: around the 10 ms of a full turn, and the 50 ms that is the most for which the loop may be blocked."""


class HelperMetrics:
    """The helper's metrics, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._traffic = TrafficMetrics()
        registry.register(self._traffic)
        self._dropped = Counter(
            "confcom_quote_helper_connections_dropped",
            f"Connections closed without an answer, by reason: {', '.join(DROP_REASONS)}",
            ["reason"],
            registry=registry,
        )
        self.connections = Gauge("confcom_quote_helper_connections", "Open connections", registry=registry)
        self.unread = Gauge(
            "confcom_quote_helper_unread_answers",
            "Open connections whose answer was sent and is not read by the client",
            registry=registry,
        )
        self.client_memory = Gauge(
            "confcom_quote_helper_client_memory_bytes",
            "Memory that is counted for clients: received requests, and answers that are not read",
            registry=registry,
        )
        self._paused = Counter(
            "confcom_quote_helper_accepting_paused", "Times that no connection could be accepted", registry=registry
        )
        self.waiting = Gauge(
            "confcom_quote_helper_waiting",
            "Requests that wait for the quote provider, or for their turn",
            registry=registry,
        )
        self.ready = Gauge(
            "confcom_quote_helper_ready",
            "1 when a whole quote has been made and the socket is this helper's",
            registry=registry,
        )
        self._provider = Gauge(
            "confcom_quote_helper_provider_state",
            f"1 for the state that the quote provider is in, 0 for the others: {', '.join(ProviderPhase)}",
            ["state"],
            registry=registry,
        )
        self._losses = Counter(
            "confcom_quote_helper_provider_losses",
            "Times that a quote provider that worked was lost",
            registry=registry,
        )
        self.self_tests_failed = Counter(
            "confcom_quote_helper_self_tests_failed", "Self-tests that made no quote", registry=registry
        )
        self._root = Gauge(
            "confcom_quote_helper_simulated_root_info",
            "1 for the simulated root by which quotes are made: SHA-256 of its certificate; the same on all nodes",
            ["sha256"],
            registry=registry,
        )
        self.loop_stall = Histogram(
            "confcom_quote_helper_loop_stall_seconds",
            "How late the event loop was, looked at twenty times a second",
            buckets=_STALL_BUCKETS,
            registry=registry,
        )
        self._provider_phase: ProviderPhase | None = None
        for reason in DROP_REASONS:
            self._dropped.labels(reason)

    def show_accepted(self, accepted: Callable[[], int]) -> None:
        """Set the function that returns the number of connections accepted since the start."""
        self._traffic.accepted = accepted

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Count an answer."""
        del peer
        self._traffic.answered(request.kind, response.error_code, seconds)

    def dropped(self, peer: Peer, reason: str) -> None:
        """Count a connection that was closed without an answer."""
        del peer
        self._dropped.labels(reason).inc()

    def accepting_paused(self, reason: str) -> None:
        """Count a pause in accepting."""
        del reason
        self._paused.inc()

    def quotes_by(self, root: str) -> None:
        """Set the simulated root by which quotes are made from now on; empty: none."""
        self._root.clear()
        if root:
            self._root.labels(root).set(1)

    def provider_changed(self, status: ProviderStatus) -> None:
        """Set the state of the quote provider."""
        if status.phase is ProviderPhase.LOST and self._provider_phase is not ProviderPhase.LOST:
            self._losses.inc()
        self._provider_phase = status.phase
        for phase in ProviderPhase:
            self._provider.labels(phase.value).set(phase is status.phase)
