"""Log lines about quotes and other events that clients cause: one each up to a rate per peer and in all, else counts.

The counts are logged once a minute. With ALL_QUOTES every quote has its line, and the log is the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Literal

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest, MessageKind, Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.telemetry.peer_windows import MAX_PEERS, OTHERS, WINDOW_SECONDS, LineBudget, PeerWindows
from confcom.quote_helper.transport.peers import GONE, Peer
from confcom.sgx.report import mr_enclave_of

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

REPEATED_REPORTS: Final = 3
"""Rejected reports of one peer in a minute at which it is logged. A client that keeps the TargetInfo from before an
update has one report rejected by 42, calls InitQuoteEx again, and succeeds."""
REJECTED_LINES_IN_ALL: Final = 10
"""Lines in a minute, for all peers. They say the same about each peer, and a peer can cause one a minute."""

_REJECTED_WHY: Final = (
    "a client that follows an update gets 42 once; one that gets it again makes reports for another target"
)
_REJECTED_REMEDY: Final = (
    "make each report for the target info that InitQuoteEx returned on this node's socket, in an enclave on this node: "
    "not for a target info of another node, of a file, or of an in-process quoting enclave, and not in an enclave of "
    "another kind (simulated beside hardware)"
)


class QuoteLog:
    """Logs which peer got which quote. `tick` must be called about once a second, and logs the counts.

    `quote_lines` of one peer are logged individually within WINDOW_SECONDS; with ALL_QUOTES there is no limit at all.
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
            fields = _quote_fields(peer, request, response)
            _logger.info("quote", extra=fields | {"event": "quote", "seconds": round(seconds, 6)})

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


class RejectedReports:
    """Counts reports that were answered by 42, by peer and minute, and logs the third one of each peer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Ordered by the time of each peer's first report, because the entry is made then.
        self._counts: dict[Hashable, tuple[float, int]] = {}
        self._lines: tuple[float, int] = (float("-inf"), 0)

    def rejected(self, peer: Peer) -> None:
        """Count a rejected report of this peer. Peers beyond MAX_PEERS in a minute are not counted."""
        since, count = self._counts.get(peer.key, (0.0, 0))
        if not count:
            if len(self._counts) >= MAX_PEERS:
                return
            since = self._clock()
        self._counts[peer.key] = (since, count + 1)
        if count + 1 == REPEATED_REPORTS and self._take_line():
            fields = {"event": "stale-reports", "pid": peer.pid, "code": 42, "count": REPEATED_REPORTS}
            _logger.warning(
                "clients send reports for another quoting enclave",
                extra=peer_fields(peer) | fields | {"why": _REJECTED_WHY, "remedy": _REJECTED_REMEDY},
            )

    def tick(self) -> None:
        """Remove the peers whose minute is over."""
        now = self._clock()
        while self._counts:
            key, (since, _) = next(iter(self._counts.items()))
            if now - since < WINDOW_SECONDS:
                return
            del self._counts[key]

    def _take_line(self) -> bool:
        now = self._clock()
        since, taken = self._lines
        if now - since >= WINDOW_SECONDS:
            since, taken = now, 0
        self._lines = (since, taken + 1)
        return taken < REJECTED_LINES_IN_ALL


def _summarise_quotes(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    results = {AesmErrorCode(code).name.lower(): count for code, count in sorted(counted.items())}
    _logger.info("more quotes", extra=_summary("more-quotes", peer, counted, seconds) | {"results": results})


def _summarise_malformed(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    _logger.warning("more malformed requests", extra=_summary("more-malformed-requests", peer, counted, seconds))


def _summary(event: str, peer: Peer, counted: Mapping[int, int], seconds: float) -> dict[str, object]:
    whose = {"peers": "others"} if peer is OTHERS else peer_fields(peer)
    return {"event": event} | whose | {"count": sum(counted.values()), "within_seconds": round(seconds, 1)}


def _quote_fields(peer: Peer, request: Request, response: Response) -> dict[str, object]:
    """Return peer, request and result; never report data or keys."""
    result = AesmErrorCode(response.error_code)
    fields = {"uid": peer.uid} | peer_fields(peer)
    fields |= {"pid": peer.pid, "call": request.kind.call, "result": result.name.lower()}
    # Anyone can write any MRENCLAVE into a report: it means something once the quoting enclave has accepted the MAC.
    if result is AesmErrorCode.SUCCESS and isinstance(request, GetQuoteExRequest):
        fields["mrenclave"] = mr_enclave_of(request.report).hex()
    return fields


def peer_fields(peer: Peer) -> dict[str, object]:
    """Return the fields that are equal for all connections of a peer; values that are not known are empty."""
    if peer.key == GONE:
        return {"peers": GONE}
    return {"uid": peer.uid, "pod": peer.pod, "container": peer.container}
