"""Rate limiting of log lines by peer and minute: a peer's first events are logged, the others are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from confcom.quote_helper.transport.peers import Peer

WINDOW_SECONDS: Final = 60.0
"""The minute of the limits per peer and minute; each peer's minute begins with its first event."""
MAX_PEERS: Final = 512
"""Peers counted separately within a minute; a node runs at most a few hundred containers. Further peers share one
count: a process that can change its uid could otherwise make the helper store four billion peers."""

OTHERS: Final = Peer("others", -1, 0)
"""Stands for all peers without a log line of their own; no connecting peer has this uid or this key."""


class LineBudget:
    """The number of log lines that all peers together get in each window.

    First lines of a peer's window, which may be the count of its previous window, are budgeted separately, so that
    peers with many lines do not use up the lines of others.
    """

    def __init__(self, *, first: int, further: int, clock: Callable[[], float]) -> None:
        self._all = {True: first, False: further}
        self._left = dict(self._all)
        self._clock = clock
        self._since = float("-inf")

    def take(self, *, first: bool) -> bool:
        """Take a line from the budget; return whether one was left in this window."""
        now = self._clock()
        if now - self._since >= WINDOW_SECONDS:
            self._since = now
            self._left.update(self._all)
        if not self._left[first]:
            return False
        self._left[first] -= 1
        return True


class _Window:
    __slots__ = ("counted", "counted_since", "first_line_decided", "lines_left", "peer", "since")

    def __init__(self, peer: Peer, since: float, lines_left: int, *, first_line_decided: bool) -> None:
        self.peer = peer
        self.since = since
        self.lines_left = lines_left
        self.first_line_decided = first_line_decided
        """Whether the first line was granted or refused already."""
        self.counted: Counter[int] = Counter()
        self.counted_since = since


class PeerWindows:
    """Admits a peer's first events within a window, as far as the budget allows, and counts the others by code.

    The count is reported when the window ends, and is itself one line of the next window. Counts for which the budget
    has no line left are added up, and reported one window later as those of OTHERS.

    `lines` is for one peer within a window, `budget` for all together. `summarise` gets a peer, its counts by code, and
    the seconds that they cover.
    """

    def __init__(
        self,
        lines: int,
        budget: LineBudget,
        clock: Callable[[], float],
        summarise: Callable[[Peer, Mapping[int, int], float], None],
    ) -> None:
        self._lines = lines
        self._budget = budget
        self._clock = clock
        self._summarise = summarise
        # All windows are equally long, so they end in the order in which they were opened.
        self._windows: dict[object, _Window] = {}

    def admit(self, peer: Peer, code: int) -> bool:
        """Return whether this event gets its own log line; else count it."""
        window = self._windows.get(peer.key)
        if window is None:
            window = self._open(peer)
        if window.lines_left > 0:
            first, window.first_line_decided = not window.first_line_decided, True
            if self._budget.take(first=first):
                window.lines_left -= 1
                return True
        window.counted[code] += 1
        return False

    def tick(self) -> None:
        """End the windows that are over."""
        now = self._clock()
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if now - window.since < WINDOW_SECONDS:
                return
            del self._windows[key]
            if window.counted and self._report(window, now) and window.peer is not OTHERS:
                self._windows[key] = _Window(window.peer, now, self._lines - 1, first_line_decided=True)

    def close(self) -> None:
        """End all windows."""
        now = self._clock()
        for window in list(self._windows.values()):
            if window.counted and window.peer is not OTHERS:
                self._report(window, now)
        others = self._windows.get(OTHERS.key)
        if others is not None and others.counted:
            self._report(others, now)
        self._windows.clear()

    def _report(self, window: _Window, now: float) -> bool:
        """Report the count, or add it to that of OTHERS; return whether it was reported.

        The line of OTHERS needs no budget: there is one per window.
        """
        if window.peer is OTHERS or self._budget.take(first=True):
            self._summarise(window.peer, window.counted, now - window.counted_since)
            return True
        others = self._others(now)
        others.counted.update(window.counted)
        others.counted_since = min(others.counted_since, window.counted_since)
        return False

    def _open(self, peer: Peer) -> _Window:
        now = self._clock()
        if len(self._windows) >= MAX_PEERS:
            return self._others(now)
        window = self._windows[peer.key] = _Window(peer, now, self._lines, first_line_decided=False)
        return window

    def _others(self, now: float) -> _Window:
        others = self._windows.get(OTHERS.key)
        if others is None:
            others = self._windows[OTHERS.key] = _Window(OTHERS, now, 0, first_line_decided=True)
        return others
