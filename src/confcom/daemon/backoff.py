"""Pauses that double: after failures, and between actions on one object. No I/O except reading the clock."""

from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""First and longest pause after failures, between writes to a node, and between reads of its Pods. After a change from
device accounting, the kubelet overwrites the writes for five minutes; no watch reports the end of a tenant's Pod."""
CALM_SECONDS = 75.0
"""Seconds without an action after which pauses are short again; more than twice LONGEST_PAUSE_SECONDS."""

NEVER = (float("-inf"), 0.0)


def retry_pause(
    failures: int,
    jitter: Callable[[], float],  # returns random numbers in [0, 1)
    *,
    first: float = FIRST_PAUSE_SECONDS,
    longest: float = LONGEST_PAUSE_SECONDS,
) -> float:
    """Return the seconds to wait after another failure: a random 50 to 100 % of the pause."""
    return min(first * 2.0 ** min(failures, 16), longest) * (1 - jitter() / 2)


@dataclass(slots=True)
class KeyedBackoff:
    """Decides when an action on a named object, such as a node, may be repeated, with pauses that double."""

    clock: Callable[[], float]
    _last: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The time of the last action and the pause after this action, keyed by the object's name."""

    def may(self, name: str) -> bool:
        at, pause = self._last.get(name, NEVER)
        return self.clock() >= at + pause

    def did(self, name: str) -> bool:
        """Record that the action was done or tried; return whether it repeats a recent action."""
        now, (at, before) = self.clock(), self._last.get(name, NEVER)
        again = now < at + CALM_SECONDS
        self._last[name] = (now, min(before * 2, LONGEST_PAUSE_SECONDS) if again else FIRST_PAUSE_SECONDS)
        return again

    def forget_idle(self) -> None:
        earliest = self.clock() - CALM_SECONDS
        self._last = {name: last for name, last in self._last.items() if last[0] > earliest}
