"""Metrics and log lines about clients' requests; beyond a number of lines a minute, requests are only counted."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Literal

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import GetQuoteExRequest, MessageKind, Request, Response
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.metrics import HelperMetrics
from confcom.quote_helper.transport.handler import DropReason
from confcom.quote_helper.transport.peers import GONE, Peer
from confcom.sgx.report import mr_enclave_of

_logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
"""Interval of checks whether a summary of counts is due; a minute's summary is at most this late."""
WINDOW_SECONDS: Final = 60.0

ALL_QUOTES: Final = "all"
QuoteLines = int | Literal["all"]
DEFAULT_QUOTE_LINES: Final[QuoteLines] = 60
"""Quotes of one peer that are logged individually in a minute. Programs attest when they start and once per session;
more than one quote a second is a load test, for which a count is enough."""
MAX_QUOTE_LINES: Final = 60_000
"""Writing more than a thousand lines a second would cost more than making the quotes."""
FIRST_LINES_IN_ALL: Final = 240
"""Lines in a minute that are the first of their peer: twice as many as a kubelet runs Pods by default. With the other
limits a minute has at most 542 lines of some 350 bytes: the 50 MiB that a kubelet keeps by default last over 4 h."""
FURTHER_LINES_IN_ALL: Final = 240
"""Maximum of lines in a minute that are not a peer's first: 4 * DEFAULT_QUOTE_LINES, or one peer's limit if higher."""
MALFORMED_LINES_IN_ALL: Final = 60
"""Maximum of lines in a minute about malformed requests, one per peer; they do not count as lines about quotes."""


@dataclass(slots=True, kw_only=True, eq=False)
class MinuteLimit:
    """Admits some events of each minute to the log, and counts the others, keyed by code.

    A minute has at most `per_peer` events of each peer. In total, it has at most `first` events that are the
    first of their peer, and `further` other events. So peers with many events leave lines for other peers.
    """

    per_peer: int
    first: int
    further: int
    clock: Callable[[], float]
    counted: Counter[int] = field(init=False, default_factory=Counter)
    since: float = field(init=False, default=0.0)  # time of the first event in this minute
    _admitted: dict[Hashable, int] = field(init=False, default_factory=dict)
    _further: int = field(init=False, default=0)

    def admit(self, peer: Peer, code: int) -> bool:
        if not self._admitted and not self.counted:
            self.since = self.clock()
        admitted = self._admitted.get(peer.key, 0)
        free = self._further < self.further if admitted else len(self._admitted) < self.first
        if admitted >= self.per_peer or not free:
            self.counted[code] += 1
            return False
        self._admitted[peer.key] = admitted + 1
        self._further += admitted > 0
        return True

    def end_minute(self) -> None:
        self.counted, self._admitted, self._further = Counter(), {}, 0


class QuoteLog:
    """An Observer that counts every event in the metrics, and logs which peer got which quote.

    At most `quote_lines` quotes of a peer are logged in WINDOW_SECONDS; ALL_QUOTES logs all, for audits.
    """

    def __init__(self, quote_lines: QuoteLines, metrics: HelperMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._every_quote = quote_lines == ALL_QUOTES
        lines = 0 if quote_lines == ALL_QUOTES else quote_lines
        further = max(FURTHER_LINES_IN_ALL, lines)
        self._quotes = MinuteLimit(per_peer=lines, first=FIRST_LINES_IN_ALL, further=further, clock=clock)
        self._malformed = MinuteLimit(per_peer=1, first=MALFORMED_LINES_IN_ALL, further=0, clock=clock)
        self._pauses = LogLimiter(WINDOW_SECONDS, clock)

    async def run(self) -> None:
        while True:
            self.log_counts()
            await asyncio.sleep(TICK_SECONDS)

    def accepted(self, count: int) -> None:
        self._metrics.accepted.inc(count)

    def dropped(self, peer: Peer, reason: DropReason) -> None:
        del peer  # no label names a peer
        self._metrics.dropped[reason].inc()

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        self._metrics.answered(request.kind, response.error_code, seconds)
        if request.kind is not MessageKind.GET_QUOTE_EX:
            return
        if self._every_quote or self._quotes.admit(peer, response.error_code):
            fields = _quote_fields(peer, request, response)
            _logger.info("quote", extra=fields | {"event": "quote", "seconds": round(seconds, 6)})

    def malformed(self, peer: Peer, error: ProtocolError) -> None:
        if self._malformed.admit(peer, 0):
            fields = {"event": "malformed-request", "pid": peer.pid, "error": str(error)}
            _logger.warning("malformed request", extra=peer_fields(peer) | fields)

    def accepting_paused(self, reason: str) -> None:
        self._metrics.accepting_paused.inc()
        if (suppressed := self._pauses.admit()) is not None:  # any client may cause a pause
            fields = {"event": "accepting-paused", "reason": reason, "suppressed": suppressed}
            _logger.warning("accepting connections is paused", extra=fields)

    def log_counts(self, *, after_seconds: float = WINDOW_SECONDS) -> None:
        for limit in (self._quotes, self._malformed):
            seconds = self._clock() - limit.since
            if seconds < after_seconds:
                continue
            count = {"count": limit.counted.total(), "within_seconds": round(seconds, 1)}
            if limit.counted and limit is self._quotes:
                results = {AesmErrorCode(code).name.lower(): number for code, number in sorted(limit.counted.items())}
                _logger.info("more quotes", extra=count | {"event": "more-quotes", "results": results})
            elif limit.counted:
                _logger.warning("more malformed requests", extra=count | {"event": "more-malformed-requests"})
            limit.end_minute()


def _quote_fields(peer: Peer, request: Request, response: Response) -> dict[str, object]:
    """Return a line's fields about peer, request and result, but never report data or keys."""
    result = AesmErrorCode(response.error_code)
    fields = {"uid": peer.uid} | peer_fields(peer)
    fields |= {"pid": peer.pid, "call": request.kind.call, "result": result.name.lower()}
    # A report's MRENCLAVE proves nothing until the quoting enclave has accepted the report's MAC.
    if result is AesmErrorCode.SUCCESS and isinstance(request, GetQuoteExRequest):
        fields["mrenclave"] = mr_enclave_of(request.report).hex()
    return fields


def peer_fields(peer: Peer) -> dict[str, object]:
    if peer.key == GONE:
        return {"peers": GONE}
    return {"uid": peer.uid, "pod": peer.pod, "container": peer.container}
