"""The quote helper's metrics. All values of labels are known in advance; no label names a client."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.quote_helper.transport.handler import DropReason
from confcom.quote_provider.base import Certificate

LOOP_LOOK_SECONDS: Final = 0.05
"""Interval between measurements of the event loop's delay: at least one meets a stall of 50 ms, the longest
allowed. Twenty measurements a second cost under a thousandth of a CPU."""
_STALL_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bucket limits in seconds, around 10 ms (a full turn) and 50 ms (the longest stall that is allowed)."""

BUCKETS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0)
"""Bucket limits in s, from a simulated quote (under 0.1 ms) to the time-out of Intel's client (15 s)."""


class HelperMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        self.accepted = counter("confcom_quote_helper_connections_accepted", "Connections made")
        self._requests = Histogram(
            "confcom_quote_helper_request_seconds",
            "Time from the complete request to its answer, by kind and result (AESM's code in lower case)",
            ["request", "result"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._answers: dict[tuple[MessageKind, int], Histogram] = {}
        """Time series, keyed by kind and code: a look-up with labels would take a microsecond more."""
        dropped = counter(
            "confcom_quote_helper_connections_dropped",
            f"Connections closed without an answer, by reason: {', '.join(DropReason)}",
            ["reason"],
        )
        self.dropped = {reason: dropped.labels(reason) for reason in DropReason}
        self.connections = gauge("confcom_quote_helper_connections", "Open connections")
        self.unread_memory = gauge(
            "confcom_quote_helper_unread_memory_bytes",
            "Memory of the kernel set aside for answers until they are read",
        )
        self.accepting_paused = counter(
            "confcom_quote_helper_accepting_paused", "Times that accepting connections was paused"
        )
        self.waiting = gauge("confcom_quote_helper_waiting", "Requests waiting for the quote provider or in the queue")
        self.losses = counter("confcom_quote_helper_provider_losses", "Times that a working quote provider was lost")
        self.aesmd_restarts = counter(
            "confcom_quote_helper_aesmd_restarts_requested",
            "Times that a restart of aesmd was requested, by cause: AESM's code in lower case, or hang",
            ["cause"],
        )
        self.simulated_root = gauge(
            "confcom_quote_helper_simulated_root_info",
            "1 for the simulated root in use: SHA-256 of its certificate; the same on all nodes",
            ["sha256"],
        )
        self._certificate_ends = gauge(
            "confcom_quote_helper_certificate_not_after_timestamp_seconds",
            "End of a certificate's validity (Unix time); certificate: pck or simulated_root. The PCK certificate of "
            "hardware is known from the first relayed quote on",
            ["certificate"],
        )
        self.loop_stall = Histogram(
            "confcom_quote_helper_loop_stall_seconds",
            "Delay of the event loop, sampled twenty times a second",
            buckets=_STALL_BUCKETS,
            registry=registry,
        )

    def answered(self, kind: MessageKind, code: int, seconds: float) -> None:
        series = self._answers.get((kind, code))
        if series is None:
            series = self._answers[kind, code] = self._requests.labels(kind.call, AesmErrorCode(code).name.lower())
        series.observe(seconds)

    def set_certificate_end(self, certificate: Certificate, end: datetime) -> None:
        self._certificate_ends.labels(certificate).set(end.timestamp())


async def watch_loop(clock: Callable[[], float], late: Callable[[float], None]) -> None:
    """Report by how many seconds each wake-up is late; delays that other processes cause count too."""
    while True:
        due = clock() + LOOP_LOOK_SECONDS
        await asyncio.sleep(LOOP_LOOK_SECONDS)
        late(max(0.0, clock() - due))
