"""Pauses after failures, and between attempts at the same thing: they double. Pure but for the clock."""

from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""Pauses after failures, between two writes of one node, and between two reads of its Pods, doubled each time: after a
change from device accounting, a kubelet overwrites for five minutes; no watch tells when a tenant's Pod has ended."""
CALM_SECONDS = 75.0
"""What was left alone for this long is done without a pause: longer than the longest pause twice over."""

NEVER = (float("-inf"), 0.0)


def retry_pause(
    failures: int,
    jitter: Callable[[], float],  # random numbers in [0, 1)
    *,
    first: float = FIRST_PAUSE_SECONDS,
    longest: float = LONGEST_PAUSE_SECONDS,
) -> float:
    """Return the seconds to wait after another failure: half of the pause at least, so that clients spread."""
    return min(first * 2.0 ** min(failures, 16), longest) * (1 - jitter() / 2)


@dataclass(slots=True)
class KeyedBackoff:
    """When something may be done again, as to a node: the pauses double while it is done again and again."""

    clock: Callable[[], float]
    _last: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When it was done last, and the pause after that."""

    def may(self, name: str) -> bool:
        at, pause = self._last.get(name, NEVER)
        return self.clock() >= at + pause

    def did(self, name: str) -> bool:
        """Take in that it was done, or tried; return whether that is one of a series."""
        now, (at, before) = self.clock(), self._last.get(name, NEVER)
        again = now < at + CALM_SECONDS
        self._last[name] = (now, min(before * 2, LONGEST_PAUSE_SECONDS) if again else FIRST_PAUSE_SECONDS)
        return again

    def forget_idle(self) -> None:
        earliest = self.clock() - CALM_SECONDS
        self._last = {name: last for name, last in self._last.items() if last[0] > earliest}
