"""Log lines about quotes and other events that clients cause: one each up to a rate per peer and in all, else counts.

The counts are logged once a minute. With ALL_QUOTES every quote has its line, and the log is the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, Literal

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind, Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.telemetry.answer_record import AnswerRecord, peer_fields
from confcom.quote_helper.telemetry.peer_windows import OTHERS, WINDOW_SECONDS, LineBudget, PeerWindows
from confcom.quote_helper.telemetry.rejected_reports import RejectedReports
from confcom.quote_helper.transport.peers import Peer

_logger = logging.getLogger(__name__)

# Names of their own, because looking up an enum member takes 0.1 µs, and this runs for each answer.
_GET_QUOTE_EX: Final = MessageKind.GET_QUOTE_EX
_ATT_KEY_NOT_INITIALIZED: Final = AesmErrorCode.ATT_KEY_NOT_INITIALIZED

ALL_QUOTES: Final = "all"
QuoteLines = int | Literal["all"]
DEFAULT_QUOTE_LINES: Final[QuoteLines] = 60
"""Quotes of one peer that are logged individually in a minute. Programs attest when they start and once per session;
more than one quote a second is a load test, for which counts are enough."""
MAX_QUOTE_LINES: Final = 60_000
"""More than a thousand lines a second would cost more than the quotes."""
MALFORMED_LINES: Final = 1
"""Lines about malformed requests per peer and minute: one shows what is wrong, and a peer could cause any number."""
FIRST_LINES_IN_ALL: Final = 240
"""First lines of all peers in a minute: twice as many as a kubelet runs Pods by default. With all other lines these are
at most 560 lines of about 350 bytes in a minute, so that the 50 MiB that a kubelet keeps by default cover more than
four hours."""
FURTHER_LINES_IN_ALL: Final = 240
"""Further lines of all peers in a minute: four times DEFAULT_QUOTE_LINES; more if the limit per peer is higher."""
MALFORMED_LINES_IN_ALL: Final = 60
"""Lines about malformed requests of all peers in a minute. They have a separate limit, so that they do not use up the
lines about quotes."""


class QuoteLog:
    """Logs which peer got which quote. `tick` must be called about once a second, and logs the counts.

    Args:
        quote_lines: quotes of one peer that are logged individually within WINDOW_SECONDS, 0 for counts only; or
            ALL_QUOTES, without a limit per peer or in all.
        clock: monotonic seconds.
    """

    def __init__(self, quote_lines: QuoteLines, clock: Callable[[], float]) -> None:
        self._every_quote = quote_lines == ALL_QUOTES
        lines = 0 if quote_lines == ALL_QUOTES else quote_lines
        budget = LineBudget(first=FIRST_LINES_IN_ALL, further=max(FURTHER_LINES_IN_ALL, lines), clock=clock)
        self._quotes = PeerWindows(lines, budget, clock, _summarise_quotes)
        budget = LineBudget(first=MALFORMED_LINES_IN_ALL, further=0, clock=clock)
        self._malformed = PeerWindows(MALFORMED_LINES, budget, clock, _summarise_malformed)
        self._rejected = RejectedReports(clock)
        self._pauses = LogLimiter(WINDOW_SECONDS, clock)

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Log or count an answer, sent `seconds` after its request was complete; only quotes are logged."""
        if request.kind is not _GET_QUOTE_EX:
            return
        if response.error_code == _ATT_KEY_NOT_INITIALIZED:
            self._rejected.rejected(peer)
        if self._every_quote or self._quotes.admit(peer, response.error_code):
            record = AnswerRecord.of(peer, request, response)
            _logger.info("quote", extra=record.fields() | {"event": "quote", "seconds": round(seconds, 6)})

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
        """Log or count input that is not an AESM request."""
        if self._malformed.admit(peer, 0):
            fields = {"event": "malformed-request", "pid": peer.pid, "error": str(violation.error)}
            _logger.warning("malformed request", extra=peer_fields(peer) | fields)

    def accepting_paused(self, reason: str) -> None:
        """Log a pause in accepting, once per WINDOW_SECONDS: at the connection limit each new client may cause one."""
        suppressed = self._pauses.admit()
        if suppressed is not None:
            fields = {"event": "accepting-paused", "reason": reason, "suppressed": suppressed}
            _logger.warning("accepting connections is paused", extra=fields)

    def tick(self) -> None:
        """Log the counts of peers whose minute is over."""
        self._quotes.tick()
        self._malformed.tick()
        self._rejected.tick()

    def close(self) -> None:
        """Log the counts of all peers."""
        self._quotes.close()
        self._malformed.close()


def _summarise_quotes(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    results = {AesmErrorCode(code).name.lower(): count for code, count in sorted(counted.items())}
    _logger.info("more quotes", extra=_summary("more-quotes", peer, counted, seconds) | {"results": results})


def _summarise_malformed(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    _logger.warning("more malformed requests", extra=_summary("more-malformed-requests", peer, counted, seconds))


def _summary(event: str, peer: Peer, counted: Mapping[int, int], seconds: float) -> dict[str, object]:
    whose = {"peers": "others"} if peer is OTHERS else peer_fields(peer)
    return {"event": event} | whose | {"count": sum(counted.values()), "within_seconds": round(seconds, 1)}
