"""Reads device plugins' inventories over HTTP when a plugin appears or changes, and every ten minutes."""

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from confcom.controller.decision import PluginPod
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.state import ClusterState
from confcom.daemon.backoff import retry_pause
from confcom.errors import ConfcomError, UnavailableError
from confcom.kubernetes.inventory import Inventory, malformed

INVENTORY_BYTES = 256 * 1024
"""Maximum size of a plugin's answer; the usual size is 3 kB plus 100 bytes for each NUMA node."""
INVENTORY_SECONDS = 5.0
"""Timeout for a plugin's complete answer, which usually takes milliseconds."""
PLUGINS_AT_ONCE = 16
"""Maximum number of simultaneous requests to plugins. With 16 requests at once, 1,000 nodes take seconds."""
REFRESH_SECONDS = 600.0
"""Seconds from a plugin's answer to the next request. The answer changes only if the Pod changes."""

Fetch = Callable[[str], Awaitable[bytes]]

_logger = logging.getLogger(__name__)

# In HTTP/1.0 the end of the connection ends the answer, and there is no transfer coding to decode.
_REQUEST = b"GET /inventory HTTP/1.0\r\n\r\n"


@dataclass(slots=True)
class PluginInventories:
    """Reads the inventory of each plugin in `state`, and calls `answered` after each valid answer."""

    state: ClusterState
    fetch: Fetch
    metrics: ControllerMetrics
    answered: Callable[[], None]
    clock: Callable[[], float]
    jitter: Callable[[], float]
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _due: list[tuple[float, PluginPod, int]] = field(default_factory=list)
    """A heap of future requests: the time, the plugin, and the plugin's number of failures so far."""
    _running: int = 0

    def ask(self, plugin: PluginPod) -> None:
        """Ask a new or changed plugin first: many of the plugins that were asked before may be dead."""
        heapq.heappush(self._due, (float("-inf"), plugin, 0))
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                pause = self._start_due(tasks)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    def _start_due(self, tasks: asyncio.TaskGroup) -> float | None:
        """Start due requests up to the maximum. Return the seconds until the next request; None to wait for `_wake`."""
        while self._running < PLUGINS_AT_ONCE and self._due:
            if (pause := self._due[0][0] - self.clock()) > 0:
                return pause
            _, plugin, failures = heapq.heappop(self._due)
            # Outdated entries are skipped: a plugin that changed (got an address, say) has a new entry.
            if plugin.address and self.state.plugins.get(plugin.name) == plugin:
                self._running += 1
                tasks.create_task(self._ask(plugin, failures))
        return None

    async def _ask(self, plugin: PluginPod, failures: int) -> None:
        try:
            offer = Inventory.from_json(await self.fetch(plugin.address)).accounting
        except ConfcomError as error:
            self.metrics.inventory_failures.labels(error.error_code).inc()
            if failures == 1:  # log only the second failure; one failure is usual
                failure = {"pod": plugin.name, "reason": str(error), "code": error.error_code}
                _logger.warning("a device plugin cannot be asked", extra=failure)
            pause, failures = retry_pause(failures, self.jitter), failures + 1
        else:
            self.metrics.inventories.inc()
            self.state.set_offer(plugin, offer)
            self.answered()
            pause, failures = REFRESH_SECONDS * (0.75 + self.jitter() / 2), 0
        self._running -= 1
        heapq.heappush(self._due, (self.clock() + pause, plugin, failures))
        self._wake.set()


async def fetch_inventory(address: str, port: int) -> bytes:
    """Return a plugin's inventory. httpx2 would take 3.7 times the CPU time; there may be 5,000 plugins."""
    answer = bytearray()
    try:
        async with asyncio.timeout(INVENTORY_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(_REQUEST)
                while len(answer) <= INVENTORY_BYTES and (part := await reader.read(INVENTORY_BYTES)):
                    answer += part
            finally:
                writer.transport.abort()
    except OSError as error:
        why = str(error) or type(error).__name__
        raise UnavailableError("the device plugin does not answer", error_code="plugin-unavailable", why=why) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if len(answer) > INVENTORY_BYTES:
        raise malformed(f"it has more than {INVENTORY_BYTES} bytes")
    if head[:7] != b"HTTP/1." or head[8:13] != b" 200 ":
        raise malformed(f"it begins with {bytes(head[:40])!r}")
    return bytes(body)
