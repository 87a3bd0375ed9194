"""Waiting between attempts: longer each time, up to a limit, and never in step with other nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays that double from `first` to `limit` seconds, each cut by up to half at random.

    Args:
        first: the first delay, in seconds.
        limit: no delay is longer.
        jitter: random numbers in [0, 1).
    """

    first: float
    limit: float
    jitter: Callable[[], float]
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.first

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = self._next
        self._next = min(delay * 2, self.limit)
        return delay * (1 - self.jitter() / 2)

    def reset(self) -> None:
        """An attempt succeeded for good: begin with the first delay again."""
        self._next = self.first
