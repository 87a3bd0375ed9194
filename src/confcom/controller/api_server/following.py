"""Keeps the state current: lists nodes and Pods, then watches them from there (in Kubernetes' terms: informers)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from confcom.controller.api_server.errors import ExpiredError, UnreadableError
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.pacing import Backoff
from confcom.controller.reconcile.facts import PodKey
from confcom.controller.reconcile.reading import Release, node_facts, pod_facts, pod_key
from confcom.controller.reconcile.state import ClusterState
from confcom.daemon.logs import LogLimiter
from confcom.errors import UnavailableError
from confcom.kubernetes.objects import KubernetesObject, name_of, text

_logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0
"""Interval of the log lines about an API server that does not answer."""
DELETED = "DELETED"


class Source(Protocol):
    """Where objects come from: `confcom.controller.api_server.cluster_api.Feed`."""

    async def list(self, take: Callable[[KubernetesObject], None]) -> str:
        """Pass each object on; return the version that a watch has to begin at."""

    def watch(self, version: str) -> AsyncIterator[tuple[str, KubernetesObject]]:
        """Yield each change after a version."""


class Sink(Protocol):
    """Where they go."""

    def take(self, thing: KubernetesObject) -> None:
        """Take in an object that exists."""

    def gone(self, thing: KubernetesObject) -> None:
        """Take in that an object does not exist any more, or does not matter."""

    def begin(self) -> None:
        """Begin a complete list."""

    def complete(self) -> None:
        """Take in that the list is complete: nothing else exists."""


class NodeSink:
    """Takes nodes into the state."""

    def __init__(self, state: ClusterState, resources: Sequence[str]) -> None:
        self._state = state
        self._resources = resources
        self._listed: set[str] | None = None
        """What a list has had so far, while there is one."""

    def take(self, thing: KubernetesObject) -> None:
        """Take in a node."""
        node = node_facts(thing, self._resources)
        if self._listed is not None:
            self._listed.add(node.name)
        self._state.set_node(node)

    def gone(self, thing: KubernetesObject) -> None:
        """Take in that a node is gone."""
        self._state.remove_node(name_of(thing))

    def begin(self) -> None:
        """Begin a complete list."""
        self._listed = set()

    def complete(self) -> None:
        """Drop all nodes that were not listed."""
        self._state.keep_nodes(self._listed or set())
        self._listed = None


class PodSink:
    """Takes Pods into the state; `plugins_changed` is called when there is a plugin to ask."""

    def __init__(
        self, state: ClusterState, resources: Sequence[str], release: Release, plugins_changed: Callable[[], None]
    ) -> None:
        self._state = state
        self._resources = resources
        self._release = release
        self._plugins_changed = plugins_changed
        self._listed: set[PodKey] | None = None
        """What a list has had so far, while there is one."""

    def take(self, thing: KubernetesObject) -> None:
        """Take in a Pod."""
        key, pod = pod_key(thing), pod_facts(thing, self._resources, self._release)
        self._state.set_pod(key, pod)
        if pod is not None and self._listed is not None:
            self._listed.add(key)
        if pod is not None and pod.plugin is not None:
            self._plugins_changed()

    def gone(self, thing: KubernetesObject) -> None:
        """Take in that a Pod is gone, or has ended."""
        self._state.set_pod(pod_key(thing), None)

    def begin(self) -> None:
        """Begin a complete list."""
        self._listed = set()

    def complete(self) -> None:
        """Drop all Pods that were not listed."""
        self._state.keep_pods(self._listed or set())
        self._listed = None


class Follower:
    """Follows one feed.

    Args:
        name: of the feed, for logs and metrics.
        source: where its objects come from.
        sink: where they go.
        changed: called after each change, and when a list is complete.
        clock: monotonic seconds.
        jitter: a random number from 0 to 1.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        sink: Sink,
        *,
        metrics: ControllerMetrics,
        changed: Callable[[], None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.synced = asyncio.Event()
        """Set once the first list was complete."""
        self.problem = "not listed yet"
        """Why the state is not current; empty if it is."""
        self.last_contact = clock()
        """When the API server answered last."""
        self._name = name
        self._source = source
        self._sink = sink
        self._metrics = metrics
        self._changed = changed
        self._clock = clock
        self._backoff = Backoff(jitter)
        self._relists = Backoff(jitter)
        self._expired = False
        """Whether the last watch told that its version is too old, before anything else."""
        self._sleep = sleep
        self._log = LogLimiter(LOG_SECONDS, clock)
        self._version = ""

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ExpiredError:
                _logger.info("everything is listed again", extra={"feed": self._name})
                self._version = ""
                if self._expired:
                    await self._sleep(self._relists.failed())
                self._expired = True
            except UnreadableError as error:
                # A watch of the same version would have the same event again.
                self._version = ""
                self._tell(error)
                await self._sleep(self._relists.failed())
            except UnavailableError as error:
                self._tell(error)
                await self._sleep(self._backoff.failed())

    async def _list(self) -> None:
        self._sink.begin()
        version = await self._source.list(self._sink.take)
        self._sink.complete()
        self._version = version
        self._metrics.lists.labels(self._name).inc()
        self._contact()
        if not self.synced.is_set():
            _logger.info("listed", extra={"feed": self._name})
            self.synced.set()
        self._changed()

    async def _watch(self) -> None:
        async for event, thing in self._source.watch(self._version):
            self._followed()
            if event == DELETED:
                self._sink.gone(thing)
            else:
                self._sink.take(thing)
            self._version = text(thing, "metadata", "resourceVersion") or self._version
            self._metrics.events.labels(self._name).inc()
            self._changed()
        # The API server ended an accepted watch, or it was quiet.
        self._followed()

    def _tell(self, error: UnavailableError) -> None:
        self.problem = str(error)
        self._metrics.api_failures.labels(error.error_code).inc()
        if (others := self._log.admit()) is not None:
            _logger.warning(
                "the API server cannot be followed",
                extra={"feed": self._name, "reason": str(error), "code": error.error_code, "others": others},
            )

    def _followed(self) -> None:
        self._expired = False
        self._relists.succeeded()
        self._contact()

    def _contact(self) -> None:
        self.last_contact = self._clock()
        self.problem = ""
        self._backoff.succeeded()
