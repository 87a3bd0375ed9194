"""Deadlines of many things that are all allowed the same time, with one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

EXPIRED_PER_TURN: Final = 64
"""Items handed over before others have the event loop. Ending a connection takes about 30 µs."""
_TIMER_STEP: Final = 0.001
"""Seconds. uvloop's timers count whole milliseconds and may fire that much early."""


class Deadlines(Generic[T]):
    """What is added must be discarded within `seconds`, or is handed to `expired`.

    Everything here has the same time, so the order of adding is the order of deadlines, and adding and discarding cost
    a dict entry each. The timer is not moved when something is discarded: nearly everything is, long before its time.

    Args:
        seconds: allowed from adding on.
        clock: monotonic seconds.
        expired: called once for each item that is late; it is not held any more then.
    """

    __slots__ = ("_clock", "_deadlines", "_expired", "_seconds", "_timer")

    def __init__(self, seconds: float, clock: Callable[[], float], expired: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._expired = expired
        self._deadlines: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """The time of this item begins now."""
        self._deadlines[item] = self._clock() + self._seconds
        if self._timer is None:
            self._arm(self._seconds)

    def discard(self, item: T) -> None:
        """This item is done, if it was held."""
        self._deadlines.pop(item, None)

    def close(self) -> None:
        """Nothing expires any more."""
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
