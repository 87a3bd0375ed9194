"""The quote helper's metrics. Label sets are closed: kinds of requests and AESM codes, never peers or enclaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confcom.daemon.readiness_log import NotReady
from confcom.quote_helper.limits_and_deadlines import DROP_REASONS
from confcom.quote_helper.quoting.provider_state import ProviderPhase, ProviderStatus
from confcom.quote_helper.telemetry.traffic_metrics import TrafficMetrics

LOOP_LOOK_SECONDS: Final = 0.05
"""Between measurements of the event loop: a stall of 50 ms, which nothing may cause, meets at least one. Twenty
measurements a second cost under a thousandth of a CPU."""
_STALL_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: around the 10 ms of a full turn, and the 50 ms that is the most for which the loop may be blocked."""


class HelperMetrics:
    """The helper's metrics, registered in `registry`."""

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
        self.client_memory = gauge(
            "confcom_quote_helper_client_memory_bytes", "Memory used by clients: received requests and unread answers"
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
        self._provider = gauge(
            "confcom_quote_helper_provider_state",
            f"1 for the quote provider's state, 0 for the other states: {', '.join(ProviderPhase)}",
            ["state"],
        )
        self._losses = counter("confcom_quote_helper_provider_losses", "Times that a working quote provider was lost")
        self.self_tests_failed = counter("confcom_quote_helper_self_tests_failed", "Self-tests that made no quote")
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
        self._provider_phase: ProviderPhase | None = None
        for reason in DROP_REASONS:
            self._dropped.labels(reason)

    def dropped(self, reason: str) -> None:
        """Count a connection that was closed without an answer."""
        self._dropped.labels(reason).inc()

    def readiness_changed(self, problem: NotReady | None) -> None:
        """Set why the helper is not ready; None: it is."""
        self._ready.set(problem is None)
        self._not_ready.clear()
        if problem is not None:
            self._not_ready.labels(problem.code).set(1)

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


async def watch_loop(clock: Callable[[], float], late: Callable[[float], None]) -> None:
    """Sleep repeatedly, and report how many seconds late each wake-up was, until cancelled.

    Args:
        clock: monotonic seconds.
        late: called with the delay of every wake-up. It includes time in which the kernel ran other processes.
    """
    while True:
        due = clock() + LOOP_LOOK_SECONDS
        await asyncio.sleep(LOOP_LOOK_SECONDS)
        late(max(0.0, clock() - due))
