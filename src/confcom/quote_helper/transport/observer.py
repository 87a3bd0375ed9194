"""The interface through which the server reports events for metrics and logs."""

from __future__ import annotations

from typing import Final, Protocol

from confcom.aesm.messages import Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.quote_helper.transport.peers import Peer

DROP_REASONS: Final = ("malformed", "timeout", "write_timeout", "shed", "over_share", "gone", "failed", "stopping")
"""Why a connection ends without a whole answer, for metrics. over_share: its peer was at its limits for too long; gone:
its client disconnected before it could be answered; failed: an error in the helper."""


class Observer(Protocol):
    """Receives every answer, and every connection that ends without one.

    No method may block: each is called between a request and its answer.
    """

    def accepted(self, count: int) -> None:
        """Record that so many connections were accepted."""

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Record an answer, sent `seconds` after its request was complete."""

    def dropped(self, peer: Peer, reason: str) -> None:
        """Record a connection that was closed without an answer. `reason` is one of DROP_REASONS."""

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        """Record input that is not an AESM request; `dropped` follows."""

    def accepting_paused(self, reason: str) -> None:
        """Record a pause in accepting: the connection limit is reached and none may be shed, or descriptors ran out.

        Clients that connect meanwhile wait in the kernel's backlog.
        """
