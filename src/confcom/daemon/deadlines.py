"""Deadlines of many items with the same timeout, on one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

EXPIRED_PER_TURN: Final = 64
"""Items that expire in one turn of the event loop. Closing a connection takes about 30 µs."""
_TIMER_STEP: Final = 0.001
"""Seconds added to each timer: uvloop's timers count whole milliseconds and may fire one early."""


class Deadlines(Generic[T]):
    """A set of items that expire `seconds` after they were added, unless they are discarded before.

    All items have the same timeout, so insertion order is deadline order, and adding and discarding cost one dict
    operation each. The timer is not moved when an item is discarded: nearly every item is, long before its deadline.

    An item that has expired is removed, and then given to `expired`.
    """

    __slots__ = ("_clock", "_deadlines", "_expired", "_seconds", "_timer")

    def __init__(self, seconds: float, clock: Callable[[], float], expired: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._expired = expired
        self._deadlines: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Add an item; its timeout begins now."""
        self._deadlines[item] = self._clock() + self._seconds
        if self._timer is None:
            self._arm(self._seconds)

    def discard(self, item: T) -> None:
        """Remove an item; nothing happens if it is not there."""
        self._deadlines.pop(item, None)

    def close(self) -> None:
        """Remove all items and cancel the timer."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds + _TIMER_STEP, self._expire_due)

    def _expire_due(self) -> None:
        self._timer = None
        now = self._clock()
        due: list[T] = []
        for item, deadline in self._deadlines.items():
            if deadline > now or len(due) == EXPIRED_PER_TURN:
                self._arm(max(0.0, deadline - now))
                break
            due.append(item)
        for item in due:
            if self._deadlines.pop(item, None) is not None:
                self._expired(item)
