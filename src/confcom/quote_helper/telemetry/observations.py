"""The server's observer: metrics and log lines about the socket's clients."""

from __future__ import annotations

import asyncio
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.quote_helper.telemetry.metrics import HelperMetrics
from confcom.quote_helper.telemetry.quote_log import QuoteLog
from confcom.quote_helper.transport.peers import Peer

_SUCCESS: Final = AesmErrorCode.SUCCESS  # looking up the enum member takes 0.1 µs

TICK_SECONDS: Final = 1.0
"""How often counts are checked for summaries that are due; a minute's summary is at most this late."""


class Observations:
    """An Observer that passes events to metrics and log; `run` must run beside the server."""

    def __init__(self, metrics: HelperMetrics, log: QuoteLog) -> None:
        self._metrics = metrics
        self._traffic, self._pods = metrics.traffic, metrics.pods
        self._log = log

    async def run(self) -> None:
        while True:
            self._pods.tick()
            self._log.tick()
            await asyncio.sleep(TICK_SECONDS)

    def close(self) -> None:
        self._log.close()

    def accepted(self, count: int) -> None:
        self._traffic.accepted += count

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        self._traffic.answered(request.kind, response.error_code, seconds)
        self._pods.answered(peer.pod, succeeded=response.error_code == _SUCCESS)
        self._log.answered(peer, request, response, seconds)

    def dropped(self, peer: Peer, reason: str) -> None:
        del peer  # no label names one
        self._metrics.dropped(reason)

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        self._log.malformed(peer, violation)

    def accepting_paused(self, reason: str) -> None:
        self._metrics.accepting_paused.inc()
        self._log.accepting_paused(reason)
