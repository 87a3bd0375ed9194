"""Pauses after failures and between writes. Pure but for the clock."""

from __future__ import annotations

from collections.abc import Callable

from confcom.controller.limits_and_deadlines import (
    CALM_SECONDS,
    FIRST_RETRY_SECONDS,
    FIRST_REWRITE_SECONDS,
    LONGEST_RETRY_SECONDS,
    LONGEST_REWRITE_SECONDS,
)


class Backoff:
    """Pauses that double with each failure in a row, with jitter.

    Args:
        jitter: a random number from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._failures = 0

    def failed(self) -> float:
        """Return how many seconds to wait now."""
        pause = retry_pause(self._failures, self._jitter)
        self._failures += 1
        return pause


def retry_pause(failures: int, jitter: Callable[[], float]) -> float:
    """Return the seconds to wait after another failure: half of the pause at least, so that clients spread."""
    longest = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16), LONGEST_RETRY_SECONDS)
    return longest * (0.5 + jitter() / 2)


class WritePacing:
    """When a node may be written again.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, float]] = {}

    def may_write(self, name: str) -> bool:
        """Return whether a node's pause is over."""
        at, pause = self._last.get(name, (float("-inf"), 0.0))
        return self._clock() >= at + pause

    def wrote(self, name: str) -> bool:
        """Take in a write, or an attempt; return whether it is one of a series."""
        now = self._clock()
        at, before = self._last.get(name, (float("-inf"), 0.0))
        again = now < at + CALM_SECONDS
        self._last[name] = (now, min(before * 2, LONGEST_REWRITE_SECONDS) if again else FIRST_REWRITE_SECONDS)
        return again

    def forget_calm(self) -> None:
        """Forget nodes that were not written for long."""
        now = self._clock()
        for name in [name for name, (at, _) in self._last.items() if now >= at + CALM_SECONDS]:
            del self._last[name]
