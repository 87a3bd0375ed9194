"""The Events that report that bound Pods request more than a node's plugin found. Pure but for the clocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from confcom.controller.limits_and_deadlines import EVENT_PAUSE_SECONDS, EVENT_SECONDS
from confcom.controller.reconcile.decision import Shortfall
from confcom.controller.reconcile.facts import NodeFacts
from confcom.controller.reconcile.reading import MANAGER
from confcom.kubernetes.objects import KubernetesObject

REASON = "EpcShortfall"


class ShortfallEvents:
    """Which shortfalls are to be reported now: new and changed ones, and from time to time those that last.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reported: dict[str, tuple[float, tuple[Shortfall, ...]]] = {}
        self._lasting: dict[str, tuple[Shortfall, ...]] = {}

    @property
    def nodes(self) -> int:
        """How many nodes have a shortfall."""
        return len(self._lasting)

    def record(self, name: str, shortfalls: tuple[Shortfall, ...]) -> tuple[Shortfall, ...]:
        """Record a node's shortfalls, of which there may be none, and return those to report now."""
        if not shortfalls:
            self._lasting.pop(name, None)
            return ()
        self._lasting[name] = shortfalls
        now = self._clock()
        at, before = self._reported.get(name, (float("-inf"), ()))
        if now < at + (EVENT_SECONDS if before == shortfalls else EVENT_PAUSE_SECONDS):
            return ()
        self._reported[name] = (now, shortfalls)
        return shortfalls

    def forget_old(self) -> None:
        """Forget what was reported so long ago that it would be reported again."""
        now = self._clock()
        for name in [name for name, (at, _) in self._reported.items() if now >= at + EVENT_SECONDS]:
            del self._reported[name]

    def forget(self, name: str) -> None:
        """Forget a node that is gone."""
        self._reported.pop(name, None)
        self._lasting.pop(name, None)


def event_of(shortfall: Shortfall, node: NodeFacts, now: datetime, instance: str) -> KubernetesObject:
    """Return the Event, as the API server takes it.

    Args:
        shortfall: what to report.
        node: the node that it is about.
        now: the time, in UTC.
        instance: the name of the controller's Pod.
    """
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    number = sha256(f"{node.uid} {shortfall} {now.isoformat()} {instance}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{node.name}.{number}", "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid},
        "type": "Warning",
        "reason": REASON,
        "message": (
            f"Pods on this node request {shortfall.requested_mib} MiB of {shortfall.resource}, and its device plugin "
            f"offers {shortfall.offered_mib}. The node's capacity is not lowered below what they request, since a "
            "restarted kubelet would fail them. Delete Pods, or look why the node has less EPC than before"
        ),
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": instance,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
