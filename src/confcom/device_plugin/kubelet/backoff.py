"""Exponential backoff with jitter, so that nodes do not retry in step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays that double from `first` to `limit` seconds, each reduced at random by up to half.

    Args:
        first: the first delay, in seconds.
        limit: the maximum delay, in seconds.
        jitter: random numbers in [0, 1).
    """

    first: float
    limit: float
    jitter: Callable[[], float]
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.first

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay = self._next
        self._next = min(delay * 2, self.limit)
        return delay * (1 - self.jitter() / 2)

    def reset(self) -> None:
        """Start again with the first delay, after a lasting success."""
        self._next = self.first
