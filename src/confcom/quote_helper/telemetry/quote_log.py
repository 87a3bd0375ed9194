"""One log line for each quote up to a rate per peer and one for all, then counts; what else clients can cause."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind, Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.telemetry.answer_record import AnswerRecord, peer_fields
from confcom.quote_helper.telemetry.peer_windows import OTHERS, WINDOW_SECONDS, LineBudget, PeerWindows
from confcom.quote_helper.telemetry.rejected_reports import RejectedReports
from confcom.quote_helper.transport.peers import Peer

_logger = logging.getLogger(__name__)

# Looking them up by their enum takes a tenth of a microsecond, and each answer passes here.
_GET_QUOTE_EX: Final = MessageKind.GET_QUOTE_EX
_ATT_KEY_NOT_INITIALIZED: Final = AesmErrorCode.ATT_KEY_NOT_INITIALIZED

DEFAULT_QUOTE_LINES: Final = 60
"""Quotes of one peer that are logged one by one in a minute. Programs attest when they start and once per session: more
than one a second is a load test, of which counts say as much."""
MAX_QUOTE_LINES: Final = 60_000
"""More than a thousand lines a second would cost more than the quotes."""
MALFORMED_LINES: Final = 1
"""Lines about malformed requests per peer and minute: one shows what is wrong, and more are the peer's to cause."""
FIRST_LINES_IN_ALL: Final = 240
"""First lines of all peers in a minute: twice as many as a kubelet runs Pods by default. With the others at most 560
lines of some 350 bytes in a minute: of the 50 MiB that a kubelet keeps by default, more than four hours."""
FURTHER_LINES_IN_ALL: Final = 240
"""Further lines of all peers in a minute: four peers' DEFAULT_QUOTE_LINES. More if one peer may have more."""
MALFORMED_LINES_IN_ALL: Final = 60
"""Lines about malformed requests of all peers in a minute. They have a bound of their own, so that they cost no quote
its line."""


class QuoteLog:
    """Says who got which quote. `tick` is to be called about once a second: what was only counted is said there.

    Args:
        quote_lines: quotes of one peer that are logged one by one within WINDOW_SECONDS; 0 for counts only.
        clock: monotonic seconds.
    """

    def __init__(self, quote_lines: int, clock: Callable[[], float]) -> None:
        budget = LineBudget(first=FIRST_LINES_IN_ALL, further=max(FURTHER_LINES_IN_ALL, quote_lines), clock=clock)
        self._quotes = PeerWindows(quote_lines, budget, clock, _summarise_quotes)
        budget = LineBudget(first=MALFORMED_LINES_IN_ALL, further=0, clock=clock)
        self._malformed = PeerWindows(MALFORMED_LINES, budget, clock, _summarise_malformed)
        self._rejected = RejectedReports(clock)
        self._pauses = LogLimiter(WINDOW_SECONDS, clock)

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """A request was answered, `seconds` after it was complete; only quotes are of interest."""
        if request.kind is not _GET_QUOTE_EX:
            return
        if response.error_code == _ATT_KEY_NOT_INITIALIZED:
            self._rejected.rejected(peer)
        if self._quotes.admit(peer, response.error_code):
            record = AnswerRecord.of(peer, request, response)
            _logger.info("quote", extra=record.fields() | {"seconds": round(seconds, 6)})

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        """What came was no AESM request."""
        if self._malformed.admit(peer, 0):
            _logger.warning(
                "malformed request", extra=peer_fields(peer) | {"pid": peer.pid, "error": str(violation.error)}
            )

    def accepting_paused(self, reason: str) -> None:
        """No connection is accepted for a while. Where all places are taken, each client that comes does it."""
        suppressed = self._pauses.admit()
        if suppressed is not None:
            _logger.warning("no connection is accepted for a while", extra={"reason": reason, "suppressed": suppressed})

    def tick(self) -> None:
        """Say what was counted, of peers whose minute is over."""
        self._quotes.tick()
        self._malformed.tick()
        self._rejected.tick()

    def close(self) -> None:
        """Say what was counted, of all."""
        self._quotes.close()
        self._malformed.close()


def _summarise_quotes(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    results = {AesmErrorCode(code).name.lower(): count for code, count in sorted(counted.items())}
    fields = {"count": sum(counted.values()), "within_seconds": round(seconds, 1), "results": results}
    _logger.info("more quotes", extra=_summary_fields(peer) | fields)


def _summarise_malformed(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    fields = {"count": sum(counted.values()), "within_seconds": round(seconds, 1)}
    _logger.warning("more malformed requests", extra=_summary_fields(peer) | fields)


def _summary_fields(peer: Peer) -> dict[str, object]:
    return {"peers": "others"} if peer is OTHERS else peer_fields(peer)
