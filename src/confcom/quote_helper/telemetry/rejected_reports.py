"""A log line about each peer whose reports are rejected repeatedly: the code alone does not tell the client why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Final

from confcom.quote_helper.telemetry.answer_record import peer_fields
from confcom.quote_helper.telemetry.peer_windows import MAX_PEERS, WINDOW_SECONDS
from confcom.quote_helper.transport.peers import Peer

_logger = logging.getLogger(__name__)

REPEATED: Final = 3
"""Rejected reports of one peer in a minute at which it is logged. A client that keeps the TargetInfo from before an
update has one report rejected by 42, calls InitQuoteEx again, and succeeds."""
LINES_IN_ALL: Final = 10
"""Lines in a minute, for all peers. They say the same about each peer, and a peer can cause one a minute."""

_WHY: Final = "a client that follows an update gets 42 once; one that gets it again makes reports for another target"
_REMEDY: Final = (
    "make each report for the target info that InitQuoteEx returned on this node's socket, in an enclave on this node: "
    "not for a target info of another node, of a file, or of an in-process quoting enclave, and not in an enclave of "
    "another kind (simulated beside hardware)"
)


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
        if count + 1 == REPEATED and self._take_line():
            fields = {"event": "stale-reports", "pid": peer.pid, "code": 42, "count": REPEATED}
            _logger.warning(
                "clients send reports for another quoting enclave",
                extra=peer_fields(peer) | fields | {"why": _WHY, "remedy": _REMEDY},
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
        return taken < LINES_IN_ALL
