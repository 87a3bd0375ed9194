"""Carries out what was decided: patches nodes' status, and reports shortfalls as Events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from confcom.controller.api_server.errors import ConflictError
from confcom.controller.limits_and_deadlines import TICK_SECONDS, WRITES_AT_ONCE
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.pacing import WritePacing
from confcom.controller.reconcile.decision import Change, Decision, Rules, Shortfall
from confcom.controller.reconcile.facts import PodFacts
from confcom.controller.reconcile.reading import Release, node_facts, pod_facts
from confcom.controller.reconcile.shortfall_events import ShortfallEvents, event_of
from confcom.controller.reconcile.state import ClusterState
from confcom.daemon.logs import LogLimiter
from confcom.errors import UnavailableError
from confcom.kubernetes.objects import KubernetesObject, text

_logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""Interval of the log lines about writes that fail: there may be thousands."""


class NodeWriter(Protocol):
    """What is needed of `confcom.controller.api_server.cluster_api.ClusterApi`."""

    async def read_node(self, name: str) -> KubernetesObject:
        """Return a node as it is now."""

    async def read_pods(self, node: str, take: Callable[[KubernetesObject], None]) -> None:
        """Pass on the bound Pods of a node as they are now."""

    async def patch_node_status(self, name: str, patch: KubernetesObject) -> None:
        """Change a node's status."""

    async def post_event(self, event: KubernetesObject) -> None:
        """Create an Event."""


class Applier:
    """Looks at nodes that have changed, and writes what was decided.

    Args:
        state: what is known, and decides.
        api: the API server.
        rules: what is configured.
        release: whose plugins count.
        instance: the name of this Pod, for Events.
        clock: monotonic seconds.
        utc_now: the time for Events.
    """

    def __init__(
        self,
        state: ClusterState,
        api: NodeWriter,
        *,
        rules: Rules,
        release: Release,
        metrics: ControllerMetrics,
        instance: str,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._api = api
        self._rules = rules
        self._release = release
        self._metrics = metrics
        self._instance = instance
        self._clock = clock
        self._utc_now = utc_now
        self._wake = asyncio.Event()
        self._pacing = WritePacing(clock)
        self._shortfalls = ShortfallEvents(clock)
        self._later: set[str] = set()
        """Nodes to look at again without an event."""
        self._waiting: set[str] = set()
        """Those of them whose key is to be removed."""
        self._failures_log = LogLimiter(LOG_SECONDS, clock)
        self._rewrites_log = LogLimiter(LOG_SECONDS, clock)

    def wake(self) -> None:
        """Look at the nodes that have changed."""
        self._wake.set()

    async def run(self, synced: Sequence[asyncio.Event]) -> None:
        """Apply until cancelled, once all feeds have been listed: without all Pods, too little may be requested."""
        for event in synced:
            await event.wait()
        next_tick = self._clock()
        while True:
            if self._clock() >= next_tick:
                self.tick()
                next_tick = self._clock() + TICK_SECONDS
            await self.apply()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_tick - self._clock()):
                    await self._wake.wait()

    async def apply(self) -> None:
        """Look at all nodes that have changed."""
        self._wake.clear()
        limit = asyncio.Semaphore(WRITES_AT_ONCE)

        async def look_at(name: str) -> None:
            async with limit:
                await self._look_at(name)

        async with asyncio.TaskGroup() as tasks:
            for name in self._state.take_changed():
                if self._is_due(name):
                    tasks.create_task(look_at(name))
        self._metrics.shortfall_nodes.set(self._shortfalls.nodes)
        self._metrics.waiting_nodes.set(len(self._waiting))

    def tick(self) -> None:
        """Have nodes looked at again whose time may have come."""
        self._pacing.forget_calm()
        self._shortfalls.forget_old()
        for name in self._later:
            if name in self._state.nodes:
                self._state.mark_changed(name)
            else:
                self._waiting.discard(name)
                self._shortfalls.forget(name)
        self._later &= self._state.nodes.keys()

    def _is_due(self, name: str) -> bool:
        """Return whether there is something to do about a node now; most nodes change without that."""
        decision = self._state.decide(name)
        if decision.waits:
            self._waiting.add(name)
        else:
            self._waiting.discard(name)
        if decision.changes or decision.shortfalls or decision.waits:
            self._later.add(name)
        else:
            self._later.discard(name)
            self._shortfalls.record(name, ())
        return bool(decision.shortfalls or (decision.changes and self._pacing.may_write(name)))

    async def _look_at(self, name: str) -> None:
        decision = self._state.decide(name)
        if decision.changes and self._pacing.may_write(name):
            rewrites = self._pacing.wrote(name)
            try:
                version = ""
                if any(change.takes for change in decision.changes):
                    decision, version = await self._decide_again(name)
                if decision.changes:
                    await self._write(name, decision.changes, version, rewrites=rewrites)
            except UnavailableError as error:
                self._failed(name, error)
        await self._report(name, decision.shortfalls)

    async def _decide_again(self, name: str) -> tuple[Decision, str]:
        """Read a node and its Pods before EPC is taken away, since what the watches tell may be old.

        Returns:
            What was decided then, and the node's version.
        """
        node = await self._api.read_node(name)
        pods: list[PodFacts] = []

        def take(pod: KubernetesObject) -> None:
            if (kept := pod_facts(pod, self._rules.resources, self._release)) is not None:
                pods.append(kept)

        await self._api.read_pods(name, take)
        facts = node_facts(node, self._rules.resources)
        decision = self._state.decide_for(facts, pods)
        return decision, text(node, "metadata", "resourceVersion")

    async def _write(self, name: str, changes: Sequence[Change], version: str, *, rewrites: bool) -> None:
        started = self._clock()
        # The answer is not taken into the state: the watch may have told of a later change already.
        await self._api.patch_node_status(name, patch_of(changes, version))
        self._metrics.write_seconds.observe(self._clock() - started)
        for change in changes:
            kind = "remove" if change.mib is None else "take" if change.takes else "give"
            self._metrics.writes.labels(kind).inc()
            _logger.info("capacity written", extra={"node": name, "resource": change.resource, "mib": change.mib})
        if rewrites:
            self._metrics.rewrites.inc()
            if self._rewrites_log.admit() is not None:
                _logger.warning("capacity was written again soon; somebody else may write it too", extra={"node": name})

    def _failed(self, name: str, error: UnavailableError) -> None:
        self._metrics.write_failures.labels(error.error_code).inc()
        if isinstance(error, ConflictError):
            return
        if (others := self._failures_log.admit()) is not None:
            fields = {"node": name, "reason": str(error), "code": error.error_code, "others": others}
            _logger.warning("capacity cannot be written", extra=fields)

    async def _report(self, name: str, shortfalls: tuple[Shortfall, ...]) -> None:
        node = self._state.nodes.get(name)
        if node is None:
            return
        for shortfall in self._shortfalls.record(name, shortfalls):
            _logger.warning(
                "Pods request more EPC than the plugin found",
                extra={"node": name, "requested_mib": shortfall.requested_mib, "offered_mib": shortfall.offered_mib},
            )
            try:
                await self._api.post_event(event_of(shortfall, node, self._utc_now(), self._instance))
            except UnavailableError as error:
                self._failed(name, error)


def patch_of(changes: Sequence[Change], version: str) -> KubernetesObject:
    """Return the merge patch: capacity and allocatable at once, since a kubelet derives the latter seconds later.

    Args:
        changes: what to write.
        version: the node's version that this was decided for; empty if any will do.
    """
    amounts = {change.resource: None if change.mib is None else str(change.mib) for change in changes}
    status = {"status": {"capacity": amounts, "allocatable": dict(amounts)}}
    return status | ({"metadata": {"resourceVersion": version}} if version else {})
