"""Log lines by peer and minute: a peer's first events are let through, the others are counted, and all are bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from confcom.quote_helper.transport.peers import Peer

WINDOW_SECONDS: Final = 60.0
"""The minute of "so many lines per peer and minute"; each peer's begins with its first event."""
MAX_PEERS: Final = 512
"""Peers that are told apart within a minute; a node runs at most some hundred containers. Those beyond share one count:
whoever can change its uid could otherwise make the helper remember four billion."""

OTHERS: Final = Peer("others", -1, 0)
"""Stands for all peers that have no line of their own; no peer that connects has this uid or a text for a key."""


class LineBudget:
    """How many lines all peers together get in each window.

    Args:
        first: for each peer's first line in its window, which may be the count of the one before. They are kept apart,
            so that peers with many lines leave the others theirs.
        further: for all other lines.
        clock: monotonic seconds.
    """

    def __init__(self, *, first: int, further: int, clock: Callable[[], float]) -> None:
        self._all = {True: first, False: further}
        self._left = dict(self._all)
        self._clock = clock
        self._since = float("-inf")

    def take(self, *, first: bool) -> bool:
        """Take a line, if one is left in this window."""
        now = self._clock()
        if now - self._since >= WINDOW_SECONDS:
            self._since = now
            self._left.update(self._all)
        if not self._left[first]:
            return False
        self._left[first] -= 1
        return True


class _Window:
    """One peer's minute."""

    __slots__ = ("asked", "counted", "counted_since", "lines_left", "peer", "since")

    def __init__(self, peer: Peer, since: float, lines_left: int, *, asked: bool) -> None:
        self.peer = peer
        self.since = since
        self.lines_left = lines_left
        self.asked = asked
        """Whether the first line was given, or refused."""
        self.counted: Counter[int] = Counter()
        self.counted_since = since


class PeerWindows:
    """A peer's first events within a window are let through, as far as the budget goes; the others are counted by code.

    The count is handed over when the window ends, and is itself one line of the window that follows it. Counts for
    which no line is left in the budget are put together, and handed over a window later as those of OTHERS.

    Args:
        lines: of one peer within a window.
        budget: of all peers together.
        clock: monotonic seconds.
        summarise: takes a count: whose, by code, and of how many seconds.
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
        # All windows are equally long, so the order in which they were opened is that in which they end.
        self._windows: dict[object, _Window] = {}

    def admit(self, peer: Peer, code: int) -> bool:
        """Whether this event gets a line of its own."""
        window = self._windows.get(peer.key)
        if window is None:
            window = self._open(peer)
        if window.lines_left > 0:
            first, window.asked = not window.asked, True
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
            if window.counted and self._tell(window, now) and window.peer is not OTHERS:
                self._windows[key] = _Window(window.peer, now, self._lines - 1, asked=True)

    def close(self) -> None:
        """End all windows."""
        now = self._clock()
        for window in list(self._windows.values()):
            if window.counted and window.peer is not OTHERS:
                self._tell(window, now)
        others = self._windows.get(OTHERS.key)
        if others is not None and others.counted:
            self._tell(others, now)
        self._windows.clear()

    def _tell(self, window: _Window, now: float) -> bool:
        """Hand the count over, or put it to that of OTHERS, whose line is always given: there is one in a window."""
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
        window = self._windows[peer.key] = _Window(peer, now, self._lines, asked=False)
        return window

    def _others(self, now: float) -> _Window:
        others = self._windows.get(OTHERS.key)
        if others is None:
            others = self._windows[OTHERS.key] = _Window(OTHERS, now, 0, asked=True)
        return others
