"""The quote helper's server with its limits, deadlines and fair turns, and nobody who is told of anything.

Without metrics, logs, probes, self-tests and a keeper of the path. Usage: python -m bench.servers.untold SOCKET DIR
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path

import uvloop

from confcom.aesm.messages import Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits_and_deadlines import BACKLOG, HelperLimits
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.transport.peers import ByUid, Peer
from confcom.quote_helper.transport.server import AesmServer
from confcom.quote_provider.simulated import SimulatedQuoteProvider


class Deaf:
    """An Observer that makes nothing of what it is told."""

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Nothing."""

    def dropped(self, peer: Peer, reason: str) -> None:
        """Nothing."""

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        """Nothing."""

    def accepting_paused(self, reason: str) -> None:
        """Nothing."""


async def serve(path: Path, state_dir: Path) -> None:
    """Serve until cancelled."""
    limits, clock = HelperLimits(), time.perf_counter
    service = QuoteService(
        stale=StaleTargetPolicy(0, clock),
        failure_log=LogLimiter(limits.repeated_log_seconds, clock),
        limits=limits,
        clock=clock,
    )
    service.provide(SimulatedQuoteProvider.open(state_dir))
    server = AesmServer(service=service, observer=Deaf(), identify=ByUid(), limits=limits, clock=clock)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        server.add_listener(listener)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
