"""The times in which a kubelet may reject Pods: it does not know the plugin's devices, and the API server not yet that.

A kubelet that starts knows no device until its plugins have registered; one whose plugin has ended knows at once that
the devices are gone, and tells the API server with its next status, up to ten seconds later. What the scheduler binds
meanwhile is rejected, whatever plugin it is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from e2e.churn.ledger import Rejection


@dataclass(slots=True)
class Window:
    """From the kill of a kubelet or of a plugin until the kubelet knows all of the plugin's devices again."""

    node: str
    cause: str
    began: float
    ended: float = inf

    def covers(self, rejection: Rejection) -> bool:
        """Whether a rejection may have been made in it."""
        return self.node == rejection.node and self.began <= rejection.told and rejection.bound <= self.ended


@dataclass(slots=True)
class Windows:
    """All so far; those of a node follow each other, or overlap."""

    _all: list[Window] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, node: str, cause: str, at: float) -> None:
        """Something is killed there now."""
        with self._lock:
            self._all.append(Window(node, cause, at))

    def close(self, node: str, at: float) -> None:
        """The kubelet there knows all devices again."""
        with self._lock:
            for window in self._all:
                if window.node == node:
                    window.ended = min(window.ended, at)

    def seconds(self) -> dict[str, list[float]]:
        """How long they were, by cause."""
        found: dict[str, list[float]] = {}
        for window in self._all:
            found.setdefault(window.cause, []).append(window.ended - window.began)
        return found

    def sorted_out(self, rejections: Iterable[Rejection]) -> tuple[Counter[str], list[Rejection]]:
        """How many rejections were made in windows, by the latest cause, and those that were made in none."""
        inside: Counter[str] = Counter()
        outside = []
        for rejection in rejections:
            causes = [window.cause for window in self._all if window.covers(rejection)]
            if causes:
                inside[causes[-1]] += 1
            else:
                outside.append(rejection)
        return inside, outside
