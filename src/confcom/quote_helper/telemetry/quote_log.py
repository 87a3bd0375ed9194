"""Log lines about quotes and other events that clients cause: one each up to a rate per peer and in all, else counts.

The counts are logged once a minute. With ALL_QUOTES every quote has its line, and the log is the audit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest, MessageKind, Request, Response
from confcom.aesm.session import ProtocolViolation
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.transport.peers import GONE, Peer
from confcom.sgx.report import mr_enclave_of

_logger = logging.getLogger(__name__)

_GET_QUOTE_EX: Final = MessageKind.GET_QUOTE_EX  # looking up the enum member takes 0.1 µs, for each answer

WINDOW_SECONDS: Final = 60.0
"""The minute of the limits per peer and in all."""
MAX_PEERS: Final = 512
"""Peers counted separately within a minute; a node runs at most a few hundred containers. Further peers share one
count: a process that can change its uid could otherwise make the helper store four billion peers."""
OTHERS: Final = Peer("others", -1, 0)
"""Stands for all peers without a log line of their own; no connecting peer has this uid or this key."""

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
at most 550 lines of about 350 bytes in a minute, so that the 50 MiB that a kubelet keeps by default cover more than
four hours."""
FURTHER_LINES_IN_ALL: Final = 240
"""Further lines of all peers in a minute: four times DEFAULT_QUOTE_LINES; more if the limit per peer is higher."""
MALFORMED_LINES_IN_ALL: Final = 60
"""Lines about malformed requests of all peers in a minute. They have a separate limit, so that they do not use up the
lines about quotes."""


@dataclass(slots=True)
class _Minute:
    peer: Peer
    lines: int = 0
    counted: Counter[int] = field(default_factory=Counter)
    """Events without a line of their own, by code."""


@dataclass(slots=True, kw_only=True, eq=False)
class PeerLines:
    """Admits a peer's first events of each minute, and counts the others by code.

    The count is reported when the minute ends, and is itself the peer's first line of the next one. Counts of peers for
    which no line is left are reported together.

    `lines` are for one peer. All peers together have `first` lines that are a peer's first one, and `further` other
    ones, so that peers with many lines do not use up the lines of others. `summarise` gets a peer, its counts by code,
    and the seconds that they cover.
    """

    lines: int
    first: int
    further: int
    clock: Callable[[], float]
    summarise: Callable[[Peer, Mapping[int, int], float], None]
    _since: float = field(init=False, default=0.0)
    _peers: dict[Hashable, _Minute] = field(init=False, default_factory=dict)
    _left: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._begin_minute()

    def admit(self, peer: Peer, code: int) -> bool:
        """Return whether this event gets its own log line; else count it."""
        minute = self._peers.get(peer.key)
        if minute is None:
            minute = self._begin(peer if len(self._peers) < MAX_PEERS else OTHERS)
        if minute.lines < self.lines and minute.peer is not OTHERS and self._take_line(minute):
            return True
        minute.counted[code] += 1
        return False

    def tick(self) -> None:
        if self.clock() - self._since >= WINDOW_SECONDS:
            self.end_minute()

    def end_minute(self) -> None:
        """Report the counts, and begin a new minute."""
        now = self.clock()
        ended, seconds = self._peers.values(), now - self._since
        self._begin_minute()
        others: Counter[int] = Counter()
        for minute in ended:
            if minute.counted and minute.peer is not OTHERS and self._take_line(self._begin(minute.peer)):
                self.summarise(minute.peer, minute.counted, seconds)
            else:
                others += minute.counted
        if others:
            self.summarise(OTHERS, others, seconds)

    def _begin_minute(self) -> None:
        self._since, self._peers, self._left = self.clock(), {}, [self.first, self.further]

    def _begin(self, peer: Peer) -> _Minute:
        if not self._peers:
            self._since = self.clock()
        return self._peers.setdefault(peer.key, _Minute(peer))

    def _take_line(self, minute: _Minute) -> bool:
        further = minute.lines > 0
        if not self._left[further]:
            return False
        self._left[further] -= 1
        minute.lines += 1
        return True


class QuoteLog:
    """Logs which peer got which quote. `tick` must be called about once a second, and logs the counts.

    `quote_lines` of one peer are logged individually within WINDOW_SECONDS; with ALL_QUOTES there is no limit at all.
    """

    def __init__(self, quote_lines: QuoteLines, clock: Callable[[], float]) -> None:
        self._every_quote = quote_lines == ALL_QUOTES
        lines = 0 if quote_lines == ALL_QUOTES else quote_lines
        self._quotes = PeerLines(
            lines=lines,
            first=FIRST_LINES_IN_ALL,
            further=max(FURTHER_LINES_IN_ALL, lines),
            clock=clock,
            summarise=_summarise_quotes,
        )
        self._malformed = PeerLines(
            lines=MALFORMED_LINES,
            first=MALFORMED_LINES_IN_ALL,
            further=0,
            clock=clock,
            summarise=_summarise_malformed,
        )
        self._pauses = LogLimiter(WINDOW_SECONDS, clock)

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """Log or count an answer, sent `seconds` after its request was complete; only quotes are logged."""
        if request.kind is not _GET_QUOTE_EX:
            return
        if self._every_quote or self._quotes.admit(peer, response.error_code):
            fields = _quote_fields(peer, request, response)
            _logger.info("quote", extra=fields | {"event": "quote", "seconds": round(seconds, 6)})

    def malformed(self, peer: Peer, violation: ProtocolViolation) -> None:
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
        self._quotes.tick()
        self._malformed.tick()

    def close(self) -> None:
        self._quotes.end_minute()
        self._malformed.end_minute()


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
