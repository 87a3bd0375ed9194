"""Applies decisions by patches of nodes' status, at once or after a node's Pods have been read."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw

from confcom.controller.api_server import ConflictError, Connection, translated
from confcom.controller.decision import Change, NodePods, Requested
from confcom.controller.facts import Release, add_pod, node_facts
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.shortfall_events import ShortfallEvents
from confcom.controller.state import ClusterState
from confcom.daemon.backoff import KeyedBackoff
from confcom.daemon.logs import LogLimiter
from confcom.errors import UnavailableError
from confcom.kubernetes.names import FIELD_MANAGER
from confcom.kubernetes.objects import TERMINAL

POD_PAGE = 16
"""Number of Pods in a page of a node's Pods. 110 Pods, a kubelet's default maximum, are 7 pages of 10 ms."""
QUICK_SECONDS = 5.0
"""Deadline for reading a node's Pods, which usually takes 0.1 s. After a timeout, the node moves to the slow
queue. Each queue reads one node at a time, so that at most two answers are in memory."""
SLOW_SECONDS = 30.0
"""Deadline for reading a slow node's Pods. Tenants can bind thousands of Pods to a node without a kubelet."""
TICK_SECONDS = 5.0
"""Seconds between checks of the nodes that may need a write or a read although no event came."""
WRITES_AT_ONCE = 8
"""Maximum number of simultaneous writes to nodes. The API server accepts some hundred writes per second."""
LOG_SECONDS = 10.0
"""Minimum seconds between log lines about failed requests, as thousands of requests may fail."""

_logger = logging.getLogger(__name__)

NODES = "api/v1/nodes"
NOT_ENDED = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL))


@dataclass(slots=True)
class NodePatches:
    """Decides about changed nodes, and patches them. Patches that do not depend on Pods are written at once.

    Nodes whose Pods must be read wait in a queue. A second queue keeps slow nodes from delaying others.
    """

    state: ClusterState
    connection: Connection
    release: Release
    metrics: ControllerMetrics
    clock: Callable[[], float]
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _quick: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _slow: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _queued: set[str] = field(default_factory=set)
    """Names of the nodes that are in a queue or are being read."""
    _slow_nodes: set[str] = field(default_factory=set)
    _later: set[str] = field(default_factory=set)
    """Names of the nodes to check again in the next periodic check, even if no event comes."""
    _shortfalls: ShortfallEvents = field(init=False)
    _writes: KeyedBackoff = field(init=False)
    _reads: KeyedBackoff = field(init=False)
    _log: LogLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._writes, self._reads = KeyedBackoff(self.clock), KeyedBackoff(self.clock)
        self._shortfalls = ShortfallEvents(self.connection, self.clock)
        self._log = LogLimiter(LOG_SECONDS, self.clock)

    def wake(self) -> None:
        if self.state.changed:
            self._wake.set()

    async def run(self, synced: Sequence[asyncio.Event]) -> None:
        """Apply decisions until cancelled, once all informers have listed their objects."""
        for event in synced:
            await event.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_all(self._quick, QUICK_SECONDS))
            tasks.create_task(self._read_all(self._slow, SLOW_SECONDS))
            next_tick = self.clock()
            while True:
                if self.clock() >= next_tick:
                    self.tick()
                    next_tick = self.clock() + TICK_SECONDS
                await self.apply()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(next_tick - self.clock()):
                        await self._wake.wait()

    async def apply(self) -> None:
        """Decide about all changed nodes, and send the patches that do not depend on Pods."""
        self._wake.clear()
        places = asyncio.Semaphore(WRITES_AT_ONCE)

        async def write(name: str) -> None:
            async with places:
                await self._write(name, self.state.decide(name).changes)

        async with asyncio.TaskGroup() as tasks:
            for name in self.state.take_changed():
                if self._is_due(name):
                    tasks.create_task(write(name))
        self.metrics.shortfall_nodes.set(len(self._shortfalls.lasting))

    def tick(self) -> None:
        """Mark the nodes in `_later` as changed, and forget nodes that no longer exist."""
        self._writes.forget_idle()
        self._reads.forget_idle()
        self._later = {name for name in self._later if self.state.knows(name)}
        self._slow_nodes &= self._later
        self._shortfalls.forget_all_but(self._later)
        self.state.changed |= self._later

    def _is_due(self, name: str) -> bool:
        """Return whether a node needs a write now (few nodes do). Queue a read of its Pods if needed."""
        decision = self.state.decide(name)
        reads = decision.reads or name in self._shortfalls.lasting
        lasts = decision.changes or reads or decision.waits
        (self._later.add if lasts else self._later.discard)(name)
        if reads and name not in self._queued and self._reads.may(name):
            self._queued.add(name)
            (self._slow if name in self._slow_nodes else self._quick).put_nowait(name)
        return bool(decision.changes) and self._writes.may(name)

    async def _read_all(self, queue: asyncio.Queue[str], seconds: float) -> None:
        while True:
            await self._read(await queue.get(), seconds)

    async def _read(self, name: str, seconds: float) -> None:
        self._reads.did(name)
        try:
            await self._look_closely(name, seconds)
        except TimeoutError:
            self._slow_nodes.add(name)
            what = f"its Pods were not read in {seconds:.0f} s: they are large or many, or the API server is slow"
            self._failed(name, UnavailableError(what, error_code="pods-not-read"))
        except UnavailableError as error:
            self._failed(name, error)
        self._queued.discard(name)
        self.wake()

    async def _look_closely(self, name: str, seconds: float) -> None:
        """Read the node and its Pods, and decide from these data, as data from the watches may be old."""
        try:
            self._take_node(await self.connection.request("GET", f"{NODES}/{name}", {}))
        except ConflictError:
            self.state.remove_node(name)
            return
        if self.state.decide(name).reads or name in self._shortfalls.lasting:
            self.metrics.pod_reads.inc()
            decision = self.state.decide(name, await self._read_pods(name, seconds))
            await self._write(name, decision.changes)
            if decision.shortfalls:
                self._later.add(name)
            await self._shortfalls.report(name, self.state.nodes.get(name), decision.shortfalls)

    async def _read_pods(self, node: str, seconds: float) -> NodePods:
        """Return what a node's bound Pods request, and which are plugins. TimeoutError after `seconds`."""
        resources = self.state.rules.resources
        found = NodePods((Requested(),) * len(resources))
        query = {"fieldSelector": f"spec.nodeName={node},{NOT_ENDED}"}

        def take(pod: Raw) -> None:
            nonlocal found
            found = add_pod(found, pod, resources, self.release)

        async with asyncio.timeout(seconds):
            await self.connection.list("api/v1/pods", query, POD_PAGE, take)
        return found

    def _take_node(self, answer: bytearray) -> None:
        with translated():
            self.state.set_node(node_facts(msgspec.json.decode(answer), self.state.rules.resources))

    async def _write(self, name: str, changes: Sequence[Change]) -> None:
        if not changes:
            return
        rewrites = self._writes.did(name)
        amounts = {change.resource: None if change.mib is None else str(change.mib) for change in changes}
        # Capacity and allocatable are written together: a kubelet derives allocatable only seconds later.
        patch: dict[str, object] = {"status": {"capacity": amounts, "allocatable": amounts}}
        if any(change.lowers for change in changes):
            patch["metadata"] = {"resourceVersion": str(self.state.nodes[name].version)}
        query = {"fieldManager": FIELD_MANAGER}
        try:
            self._take_node(await self.connection.request("PATCH", f"{NODES}/{name}/status", query, patch))
        except UnavailableError as error:
            self._failed(name, error)
            return
        self.metrics.rewrites.inc(rewrites)
        for change in changes:
            kind = "remove" if change.mib is None else "take" if change.lowers else "give"
            self.metrics.writes.labels(kind).inc()
            written = {"node": name, "resource": change.resource, "mib": change.mib, "again": rewrites}
            _logger.info("capacity written", extra=written)

    def _failed(self, name: str, error: UnavailableError) -> None:
        self.metrics.write_failures.labels(error.error_code).inc()
        if not isinstance(error, ConflictError) and (others := self._log.admit()) is not None:
            failure = {"node": name, "reason": str(error), "code": error.error_code, "others": others}
            _logger.warning("a request about a node failed", extra=failure)
