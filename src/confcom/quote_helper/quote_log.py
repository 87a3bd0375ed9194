"""One log line for each quote up to a rate per peer, then a count; what else clients can cause, once a minute."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind, Request, Response, kind_of
from confcom.aesm.session import ProtocolViolation
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.answer_record import AnswerRecord, peer_fields
from confcom.quote_helper.peers import Peer

_logger = logging.getLogger(__name__)

WINDOW_SECONDS: Final = 60.0
"""The minute of "so many lines per peer and minute"; each peer's begins with its first event."""
DEFAULT_QUOTE_LINES: Final = 60
"""Quotes of one peer that are logged one by one in a minute. Programs attest when they start and once per session: more
than one a second is a load test, of which counts say as much."""
MAX_QUOTE_LINES: Final = 60_000
"""More than a thousand lines a second would cost more than the quotes."""
MALFORMED_LINES: Final = 1
"""Lines about malformed requests per peer and minute: one shows what is wrong, and more are the peer's to cause."""
MAX_PEERS: Final = 512
"""Peers that are told apart within a minute; a node runs at most some hundred containers. Those beyond share one count:
whoever can change its uid could otherwise make the helper remember four billion."""

_ANY: Final = Peer("others", -1, 0)
"""Stands for all peers beyond MAX_PEERS; no peer that connects has this uid or a text for a key."""


class QuoteLog:
    """Says who got which quote. `tick` is to be called about once a second: what was only counted is said there.

    Args:
        quote_lines: quotes of one peer that are logged one by one within WINDOW_SECONDS; 0 for counts only.
        clock: monotonic seconds.
    """

    def __init__(self, quote_lines: int, clock: Callable[[], float]) -> None:
        self._quotes = _PeerWindows(quote_lines, clock, _summarise_quotes)
        self._malformed = _PeerWindows(MALFORMED_LINES, clock, _summarise_malformed)
        self._pauses = LogLimiter(WINDOW_SECONDS, clock)

    def answered(self, peer: Peer, request: Request, response: Response, seconds: float) -> None:
        """A request was answered, `seconds` after it was complete; only quotes are of interest."""
        if kind_of(request) is not MessageKind.GET_QUOTE_EX:
            return
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

    def close(self) -> None:
        """Say what was counted, of all."""
        self._quotes.close()
        self._malformed.close()


class _Window:
    """One peer's minute."""

    __slots__ = ("counted", "lines_left", "peer", "since")

    def __init__(self, peer: Peer, since: float, lines_left: int) -> None:
        self.peer = peer
        self.since = since
        self.lines_left = lines_left
        self.counted: Counter[int] = Counter()


class _PeerWindows:
    """A peer's first events within a window are let through, and the others counted by their code.

    The count is handed over when the window ends, and is itself one line of the window that follows it.
    """

    def __init__(
        self, lines: int, clock: Callable[[], float], summarise: Callable[[Peer, Mapping[int, int], float], None]
    ) -> None:
        self._lines = lines
        self._clock = clock
        self._summarise = summarise
        # All windows are equally long, so the order in which they were opened is that in which they end.
        self._windows: dict[object, _Window] = {}

    def admit(self, peer: Peer, code: int) -> bool:
        """Whether this event gets a line of its own."""
        window = self._windows.get(peer.key)
        if window is None:
            window = self._open(peer)
        if window.lines_left > 0:
            window.lines_left -= 1
            return True
        window.counted[code] += 1
        return False

    def tick(self) -> None:
        """End the windows that are over."""
        now = self._clock()
        while self._windows:
            key, window = next(iter(self._windows.items()))
            seconds = now - window.since
            if seconds < WINDOW_SECONDS:
                return
            del self._windows[key]
            if window.counted:
                self._summarise(window.peer, window.counted, seconds)
                self._windows[key] = _Window(window.peer, now, self._lines - 1)

    def close(self) -> None:
        """End all windows."""
        now = self._clock()
        for window in self._windows.values():
            if window.counted:
                self._summarise(window.peer, window.counted, now - window.since)
        self._windows.clear()

    def _open(self, peer: Peer) -> _Window:
        if len(self._windows) >= MAX_PEERS:
            if _ANY.key in self._windows:
                return self._windows[_ANY.key]
            peer = _ANY
        window = self._windows[peer.key] = _Window(peer, self._clock(), self._lines)
        return window


def _summarise_quotes(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    results = {AesmErrorCode(code).name.lower(): count for code, count in sorted(counted.items())}
    fields = {"count": sum(counted.values()), "within_seconds": round(seconds, 1), "results": results}
    _logger.info("more quotes", extra=_summary_fields(peer) | fields)


def _summarise_malformed(peer: Peer, counted: Mapping[int, int], seconds: float) -> None:
    fields = {"count": sum(counted.values()), "within_seconds": round(seconds, 1)}
    _logger.warning("more malformed requests", extra=_summary_fields(peer) | fields)


def _summary_fields(peer: Peer) -> dict[str, object]:
    return {"peers": "others"} if peer is _ANY else peer_fields(peer)
