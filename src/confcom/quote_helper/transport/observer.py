"""What the server tells whoever counts and logs."""

from __future__ import annotations

from typing import Protocol

from confcom.aesm.messages import Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.quote_helper.transport.peers import Peer


class Observer(Protocol):
    """Told of every answer, and of connections that end without one.

    Every method returns at once: it is called between a request and its answer.
    """

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """A request got its answer, `seconds` after it was complete."""

    def dropped(self, peer: Peer, reason: str) -> None:
        """A connection was closed without an answer. `reason` is one of DROP_REASONS in `limits`."""

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        """What came was no AESM request; `dropped` follows."""

    def accepting_paused(self, reason: str) -> None:
        """No connection is accepted for a while: all places are taken and none may be freed, or no descriptor is left.

        Those that connect meanwhile wait in the kernel's backlog.
        """
