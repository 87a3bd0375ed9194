"""The times in which a kubelet may reject Pods: it does not know the plugin's devices, and the API server not yet that.

A kubelet that starts knows no device until its plugins have registered; one whose plugin has ended knows at once that
the devices are gone, and tells the API server with its next status, up to ten seconds later. What the scheduler binds
meanwhile is rejected, whatever plugin it is. In an update, a kubelet up to 1.36 takes the resources from the new
instance when the old one ends, and has them again when the new one has registered once more; its log tells both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from e2e.churn.ledger import Rejection

LATE_SECONDS = 1.0
"""By which the watch may tell of a binding after the kubelet has seen it, on a machine that is busy."""


@dataclass(slots=True)
class Window:
    """From the loss of a plugin's devices, or the kill that causes it, until the kubelet knows all of them again."""

    node: str
    cause: str
    began: float
    ended: float = inf

    def covers(self, rejection: Rejection) -> bool:
        """Whether a rejection may have been made in it."""
        return (
            self.node == rejection.node
            and self.began <= rejection.told
            and rejection.bound - LATE_SECONDS <= self.ended
        )


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

    def add(self, node: str, cause: str, began: float, ended: float) -> None:
        """It has been one, as the kubelet's log tells."""
        with self._lock:
            self._all.append(Window(node, cause, began, ended))

    def seconds(self) -> dict[str, list[float]]:
        """How long they were, by cause."""
        found: dict[str, list[float]] = {}
        for window in self._all:
            found.setdefault(window.cause, []).append(window.ended - window.began)
        return found

    def sorted_out(self, rejections: Iterable[Rejection]) -> tuple[list[tuple[str, Rejection]], list[Rejection]]:
        """The rejections that were made in windows, each with the latest cause, and those that were made in none."""
        inside, outside = [], []
        for rejection in rejections:
            causes = [window.cause for window in self._all if window.covers(rejection)]
            if causes:
                inside.append((causes[-1], rejection))
            else:
                outside.append(rejection)
        return inside, outside
