"""Keeps the state current: lists objects of one kind, then watches them (in Kubernetes' terms: an informer)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw

from confcom.controller.api_server.connection import Connection, RelistError, translated
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.pacing import retry_pause
from confcom.errors import UnavailableError
from confcom.kubernetes.objects import KubernetesObject, name_of, text

PAGE = 250
"""Nodes, or Pods of ours, in a page of a list: 3 MB, with nodes of 12 kB."""
SHORT_WATCH_SECONDS = 10.0
"""A watch that lasted less is followed by a pause. An API server ends a watch after half an hour at the earliest."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Follower:
    """Follows objects of one kind: `take` gets those that exist, and `gone` names that are not watched any more.

    `known` has by name what was taken and is not gone; `changed` is called after each change.
    """

    name: str
    path: str
    listed: str
    """The label selector of the list; empty for all."""
    watched: str
    take: Callable[[KubernetesObject], None]
    gone: Callable[[str], None]
    known: Mapping[str, object]
    connection: Connection
    metrics: ControllerMetrics
    changed: Callable[[], None]
    clock: Callable[[], float]
    jitter: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str = ""
    """Why the API server cannot be followed; empty if it can."""
    last_contact: float = field(init=False)
    _version: str = ""

    def __post_init__(self) -> None:
        self.last_contact = self.clock()

    async def run(self) -> None:
        short = 0
        while True:
            begun = self.clock()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except UnavailableError as error:
                if isinstance(error, RelistError):
                    self._version = ""  # a watch of the same version would have the same event again
                self.problem = str(error)
                self.metrics.api_failures.labels(error.error_code).inc()
                told = {"feed": self.name, "reason": self.problem, "code": error.error_code}
                _logger.warning("the API server cannot be followed", extra=told)
            short = short + 1 if self.clock() - begun < SHORT_WATCH_SECONDS else 0
            if short:
                await self.sleep(retry_pause(short - 1, self.jitter))

    async def _list(self) -> None:
        names: set[str] = set()

        def take(raw: Raw) -> None:
            thing = msgspec.json.decode(raw, type=dict)
            names.add(name_of(thing))
            self.take(thing)

        query = {"labelSelector": self.listed}
        self._version = await self.connection.list(self.path, query, PAGE, take)
        for name in self.known.keys() - names:
            self.gone(name)
        self.synced.set()
        self._follow()

    async def _watch(self) -> None:
        query = {"resourceVersion": self._version, "labelSelector": self.watched}
        async for kind, thing in self.connection.watch(self.path, query):
            if kind == "DELETED":
                self.gone(name_of(thing))
            elif kind != "BOOKMARK":
                with translated():
                    self.take(thing)
            self._version = text(thing, "metadata", "resourceVersion") or self._version
            self._follow()
        self._follow()  # the API server ended an accepted watch, or it was quiet

    def _follow(self) -> None:
        self.last_contact, self.problem = self.clock(), ""
        self.changed()
