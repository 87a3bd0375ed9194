"""Asks the device plugins for their inventories, when they appear or change, and from time to time."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable

from confcom.controller.limits_and_deadlines import PLUGINS_AT_ONCE, REFRESH_SECONDS
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.pacing import retry_pause
from confcom.controller.reconcile.facts import Offer, PodKey
from confcom.controller.reconcile.inventory import read_offer
from confcom.controller.reconcile.state import ClusterState
from confcom.daemon.logs import LogLimiter
from confcom.errors import ConfcomError

_logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""Interval of the log lines about plugins that do not answer: there may be thousands."""

Fetch = Callable[[str], Awaitable[bytes]]
"""Returns the inventory of the plugin with an address."""


class PluginAsker:
    """Asks each plugin that the state knows.

    Args:
        state: has the plugins, and takes their answers.
        fetch: gets an inventory.
        answered: called after each answer.
        clock: monotonic seconds.
        jitter: a random number from 0 to 1.
    """

    def __init__(
        self,
        state: ClusterState,
        fetch: Fetch,
        *,
        metrics: ControllerMetrics,
        answered: Callable[[], None],
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._state = state
        self._fetch = fetch
        self._metrics = metrics
        self._answered = answered
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._due: list[tuple[float, PodKey, str, int]] = []
        """A heap: when, which plugin, in which incarnation, after how many failures."""
        self._running = 0
        self._log = LogLimiter(LOG_SECONDS, clock)

    def wake(self) -> None:
        """Look for plugins that are new or have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for key in self._state.take_unasked():
                    if plugin := self._state.plugin(key):
                        # Before all that are asked again: those of dead nodes would take all places for minutes.
                        heapq.heappush(self._due, (float("-inf"), key, plugin.incarnation, 0))
                pause = self._start_due(tasks)
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def _start_due(self, tasks: asyncio.TaskGroup) -> float | None:
        """Start asking as many as may be asked now; return the seconds until the next, None if a task has to end."""
        while self._running < PLUGINS_AT_ONCE and self._due:
            if (pause := self._due[0][0] - self._clock()) > 0:
                return pause
            _, key, incarnation, failures = heapq.heappop(self._due)
            plugin = self._state.plugin(key)
            # Of another incarnation there is another entry; one without an address gets one, and is another then.
            if plugin is not None and plugin.incarnation == incarnation and plugin.address:
                self._running += 1
                tasks.create_task(self._ask(key, plugin.address, incarnation, failures))
        return None

    async def _ask(self, key: PodKey, address: str, incarnation: str, failures: int) -> None:
        try:
            offer: Offer = read_offer(await self._fetch(address))
        except ConfcomError as error:
            self._metrics.inventory_failures.labels(error.error_code).inc()
            if failures and (others := self._log.admit()) is not None:
                _logger.warning(
                    "a device plugin cannot be asked",
                    extra={"pod": key[1], "reason": str(error), "code": error.error_code, "others": others},
                )
            pause, failures = retry_pause(failures, self._jitter), failures + 1
        else:
            self._metrics.inventories.inc()
            self._state.set_offer(key, incarnation, offer)
            self._answered()
            pause, failures = REFRESH_SECONDS * (0.75 + self._jitter() / 2), 0
        self._running -= 1
        heapq.heappush(self._due, (self._clock() + pause, key, incarnation, failures))
        self._wake.set()
