"""Staying registered with the kubelet, for one resource, through everything that a kubelet does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from confcom.device_plugin.discovery.device_watch import DeviceAvailability
from confcom.device_plugin.kubelet.backoff import Backoff
from confcom.device_plugin.kubelet.endpoint import Endpoint, Serving
from confcom.device_plugin.kubelet.registration_attempt import (
    REGISTER_SECONDS,
    AttemptFailedError,
    register_once,
    why_no_kubelet,
)
from confcom.device_plugin.kubelet.socket_names import PeerInstances
from confcom.device_plugin.metrics import PluginMetrics
from confcom.errors import ConfcomError

_logger = logging.getLogger(__name__)

SOCKET_CHECK_SECONDS = 1.0
"""How often a registered plugin looks whether its socket's path is still there, and which other instances are: one
lstat, one listing of the directory, and a connect to each socket of another instance."""
MIN_VISIBLE_SECONDS = 1.5 * SOCKET_CHECK_SECONDS
"""How long an instance is there at least once it may have registered, for another to see it; with some patience."""
STABLE_SECONDS = 1.0
"""A stream that lasted this long was a working registration, and the next one is tried without delay."""
ABSENT_FIRST_SECONDS, ABSENT_LIMIT_SECONDS = 0.05, 0.25
"""Looking for a kubelet that does not listen costs one connect, and it should be met soon after it starts."""
RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS = 0.02, 5.0
"""A kubelet that refuses, or drops us at once, must not be called in a loop (one plugin in the wild: 300 times a s).
A kubelet that ended is another matter: its successor is a stranger, and begins with the first delay."""


class RegistrationCause(StrEnum):
    """Why a registration was needed."""

    START = "start"
    STREAM_LOST = "stream_lost"
    """The kubelet restarted, or another instance that had registered before us ended (up to 1.36)."""
    SOCKET_LOST = "socket_lost"
    """Our socket's path was removed while the stream went on; nobody could dial us again."""
    SIBLING_ENDED = "sibling_ended"
    """Another instance that had registered after us ended: up to 1.36 the kubelet has lost the resource with it."""
    DEVICE_BACK = "device_back"
    """The SGX device was lost, and we ended the stream ourselves; now it is back."""


@dataclass(slots=True)
class RegistrationStatus:
    """Where one resource stands, for /inventory."""

    registered: bool = False
    """Whether the kubelet is watching our list now."""
    registrations: int = 0
    """How many led to a stream since start."""
    cause: RegistrationCause = RegistrationCause.START
    """Why the last one was needed."""
    problem: str = "not tried yet"
    """Why the last attempt failed, or empty."""


class Registrar:
    """Serves one resource and keeps it registered.

    Args:
        resource_name: what is registered.
        kubelet_socket: the kubelet's registration socket; it may be missing for as long as it likes.
        new_endpoint: makes an endpoint that is not yet served, with a path never used before.
        peers: the other instances that serve it.
        metrics: where registrations are counted.
        jitter: random numbers in [0, 1).
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        *,
        resource_name: str,
        kubelet_socket: Path,
        new_endpoint: Callable[[], Endpoint],
        peers: PeerInstances,
        metrics: PluginMetrics,
        jitter: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.status = RegistrationStatus()
        self.resource_name = resource_name
        self._kubelet_socket = kubelet_socket
        self._serving = Serving(new_endpoint)
        self._peers = peers
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._absent = Backoff(ABSENT_FIRST_SECONDS, ABSENT_LIMIT_SECONDS, jitter)
        self._retry = Backoff(RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS, jitter)
        self._registered_at = self._offered_at = -math.inf

    @property
    def socket_path(self) -> Path | None:
        """Where the resource is served now."""
        return self._serving.path

    async def start(self) -> None:
        """Serve. From here on the kubelet could be answered.

        Raises:
            UnavailableError: the socket cannot be bound.
        """
        await self._serving.restart()

    async def run_while(self, device: DeviceAvailability) -> None:
        """Stay registered while the device is there, and unregistered while it is not, until cancelled.

        A lost device ends the kubelet's stream, which leaves the devices in the node's capacity and takes them from
        what can be allocated. The server goes with it, so that nobody is given a device that is not there.
        """
        cause = RegistrationCause.START
        while True:
            if device.unavailable.is_set():
                await self._wait_unregistered(device)
                cause = RegistrationCause.DEVICE_BACK
            await _first_done(self.run(cause), device.unavailable.wait())

    async def _wait_unregistered(self, device: DeviceAvailability) -> None:
        await self.close()
        self.status.problem = device.reason
        _logger.warning("not offered any more", extra={"resource": self.resource_name, "reason": device.reason})
        await device.available.wait()
        with contextlib.suppress(ConfcomError):  # it is tried again for each attempt to register, and told then
            await self.start()

    async def run(self, cause: RegistrationCause = RegistrationCause.START) -> None:
        """Register, and again whenever it is needed, until cancelled."""
        while True:
            endpoint = await self._register(cause)
            cause = await _until_lost(endpoint, self._peers)
            if cause is RegistrationCause.SIBLING_ENDED:
                self._serving.retain()
            self._show_registered(registered=False)
            _logger.warning("no longer registered", extra={"resource": self.resource_name, "cause": cause})
            if self._clock() - self._registered_at >= STABLE_SECONDS:
                self._retry.reset()
            elif not why_no_kubelet(self._kubelet_socket):
                await self._sleep(self._retry.next_delay())

    async def end(self) -> None:
        """Close, but not before an older instance has seen that we were there: it takes the resource back then."""
        remaining = self._offered_at + MIN_VISIBLE_SECONDS - self._clock()
        if remaining > 0 and self._peers.any_alive():
            await self._sleep(remaining)
        await self.close()

    async def close(self) -> None:
        """End the kubelet's stream and the server, and remove the socket."""
        await self._serving.close()
        self._show_registered(registered=False)

    async def _register(self, cause: RegistrationCause) -> Endpoint:
        while True:
            try:
                endpoint = await register_once(self._kubelet_socket, self.resource_name, self._offered_endpoint)
                break
            except AttemptFailedError as failure:
                self._note_failure(failure)
                if failure.kubelet_listens:
                    self._absent.reset()
                    await self._sleep(self._retry.next_delay())
                else:
                    self._retry.reset()
                    await self._sleep(self._absent.next_delay())
        self._absent.reset()
        self._registered_at = self._clock()
        self._peers.record_registration(endpoint.path, within=REGISTER_SECONDS)
        self.status.cause = cause
        self.status.problem = ""
        self.status.registrations += 1
        self._metrics.registrations.labels(self.resource_name, cause).inc()
        self._show_registered(registered=True)
        _logger.info("registered", extra={"resource": self.resource_name, "cause": cause, "socket": endpoint.path.name})
        return endpoint

    async def _offered_endpoint(self) -> Endpoint:
        self._offered_at = self._clock()
        return await self._serving.ensure_served()

    def _note_failure(self, failure: AttemptFailedError) -> None:
        if failure.problem != self.status.problem:
            _logger.warning("not registered yet", extra={"resource": self.resource_name, "reason": failure.problem})
        self.status.problem = failure.problem
        if failure.path_is_used:
            self._serving.mark_path_used()
        if failure.kubelet_listens:
            self._metrics.registration_failures.labels(self.resource_name).inc()

    def _show_registered(self, *, registered: bool) -> None:
        self.status.registered = registered
        self._metrics.registered.labels(self.resource_name).set(registered)


async def _first_done(*parts: Coroutine[Any, Any, Any]) -> None:
    """Run side by side until one is done; the others are cancelled, and a failure of any is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _until_lost(endpoint: Endpoint, peers: PeerInstances) -> RegistrationCause:
    while True:
        try:
            async with asyncio.timeout(SOCKET_CHECK_SECONDS):
                await endpoint.servicer.streams.lost.wait()
        except TimeoutError:
            if not endpoint.has_path():
                return RegistrationCause.SOCKET_LOST
            if peers.any_ended():
                return RegistrationCause.SIBLING_ENDED
        else:
            return RegistrationCause.STREAM_LOST
