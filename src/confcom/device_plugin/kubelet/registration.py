"""Registration of one resource with the kubelet, repeated whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from confcom.daemon.supervision import run_unless
from confcom.device_plugin.discovery.device_watch import DeviceAvailability
from confcom.device_plugin.kubelet.endpoint import Endpoint, Serving
from confcom.device_plugin.kubelet.kubelet_watch import KubeletWatch
from confcom.device_plugin.kubelet.registration_attempt import (
    REGISTER_SECONDS,
    AttemptFailedError,
    kubelet_absence,
    register_once,
)
from confcom.device_plugin.kubelet.socket_names import PeerInstances
from confcom.device_plugin.metrics import PluginMetrics
from confcom.errors import ConfcomError

_logger = logging.getLogger(__name__)

SOCKET_CHECK_SECONDS = 1.0
"""Interval at which a registered plugin checks whether its socket's path still exists and which other instances run:
one lstat, one listing of the directory, and a connect to each socket of another instance."""
MIN_VISIBLE_SECONDS = 1.5 * SOCKET_CHECK_SECONDS
"""Minimum time that an instance serves after it may have registered, so that other instances see it; with a margin."""
STABLE_SECONDS = 1.0
"""A stream that lasted this long counts as a working registration; the next attempt follows without delay."""
ABSENT_REPORT_SECONDS = 1.0
"""How often the reason is looked at anew while no kubelet listens: its socket may be missing, stale or forbidden."""
RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS = 0.02, 5.0
"""Backoff while a kubelet refuses the plugin or drops it at once, so that it is not called in a loop (one known plugin:
300 times a second). When the kubelet ends, the backoff is reset, because nothing is known about its successor."""


YIELD_SECONDS = 0.05
"""How much later than tenants' resources the others register with a kubelet that has just started. All of them together
take the plugin 35 ms of CPU, and a kubelet reports 0 for ten seconds for what comes after its first report."""


class RegistrationCause(StrEnum):
    """Why a registration was needed."""

    START = "start"
    STREAM_LOST = "stream_lost"
    """The kubelet restarted, or another instance that had registered before us ended (up to 1.36)."""
    SOCKET_LOST = "socket_lost"
    """Our socket's path was removed while the stream stayed open; the kubelet could not dial it again."""
    SIBLING_ENDED = "sibling_ended"
    """Another instance that had registered after us ended: up to 1.36 the kubelet has lost the resource with it."""
    DEVICE_BACK = "device_back"
    """The SGX device was lost, and we ended the stream; now it is back."""


@dataclass(slots=True)
class RegistrationStatus:
    """The state of one resource's registration, for /inventory."""

    registered: bool = False  # the kubelet watches our list now
    registrations: int = 0  # since start, those that led to a stream
    cause: RegistrationCause = RegistrationCause.START
    problem: str = ""
    code: str = ""


@dataclass(slots=True)
class Backoff:
    """Delays, in seconds, that double; each is reduced at random by up to half, so that nodes do not retry in step."""

    first: float
    limit: float
    jitter: Callable[[], float]  # random numbers in [0, 1)
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay = self._next
        self._next = min(delay * 2, self.limit)
        return delay * (1 - self.jitter() / 2)

    def reset(self) -> None:
        """Start again with the first delay, after a lasting success."""
        self._next = self.first


class Registrar:
    """Serves one resource and keeps it registered.

    A resource that `yields` is rarely needed by tenants' Pods, so that others are registered first.
    """

    def __init__(
        self,
        *,
        resource_name: str,
        kubelet_socket: Path,
        kubelet_watch: KubeletWatch,
        new_endpoint: Callable[[], Endpoint],
        peers: PeerInstances,
        yields: bool,
        metrics: PluginMetrics,
        jitter: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.status = RegistrationStatus(problem="not tried yet", code="not-tried")
        self.resource_name = resource_name
        self._kubelet_socket = kubelet_socket
        self._kubelet_watch = kubelet_watch
        self._serving = Serving(new_endpoint)
        self._peers = peers
        self._yields = yields
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._retry_backoff = Backoff(RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS, jitter)
        self._registered_at = self._offered_at = -math.inf

    @property
    def socket_path(self) -> Path | None:
        """The socket on which the resource is served now; None if it is not served."""
        return self._serving.path

    async def start(self) -> None:
        """Start serving, so that the kubelet's calls can be answered."""
        await self._serving.restart()

    async def run_while(self, device: DeviceAvailability) -> None:
        """Keep the resource registered while the device is available, and unregistered otherwise, until cancelled.

        A lost device ends the kubelet's stream: the devices stay in the node's capacity and are removed from what is
        allocatable. The server stops too, so that no container is given a missing device.
        """
        cause = RegistrationCause.START
        while True:
            if device.unavailable.is_set():
                await self._wait_unregistered(device)
                cause = RegistrationCause.DEVICE_BACK
            await run_unless(device.unavailable.wait(), self.run(cause))

    async def _wait_unregistered(self, device: DeviceAvailability) -> None:
        await self.close()
        self.status.problem, self.status.code = device.reason, device.code
        _logger.warning("no longer offered", extra={"resource": self.resource_name, "reason": device.reason})
        await device.available.wait()
        with contextlib.suppress(ConfcomError):  # each attempt to register tries it again, and reports the failure
            await self.start()

    async def run(self, cause: RegistrationCause = RegistrationCause.START) -> None:
        """Register, and register again whenever the registration is lost, until cancelled."""
        while True:
            endpoint = await self._register(cause)
            cause = await _until_lost(endpoint, self._peers)
            if cause is RegistrationCause.SIBLING_ENDED:
                self._serving.retain()
            self._set_registered(registered=False)
            _logger.warning("no longer registered", extra={"resource": self.resource_name, "cause": cause})
            if self._clock() - self._registered_at >= STABLE_SECONDS:
                self._retry_backoff.reset()
            elif not kubelet_absence(self._kubelet_socket):
                await self._sleep(self._retry_backoff.next_delay())

    async def end(self) -> None:
        """Close, after older instances had time to see this one, so that they detect its end and register again."""
        remaining = self._offered_at + MIN_VISIBLE_SECONDS - self._clock()
        if remaining > 0 and self._peers.any_alive():
            await self._sleep(remaining)
        await self.close()

    async def close(self) -> None:
        """End the kubelet's stream, stop the server, and remove the socket."""
        await self._serving.close()
        self._set_registered(registered=False)

    async def _register(self, cause: RegistrationCause) -> Endpoint:
        while True:
            try:
                endpoint = await register_once(self._kubelet_socket, self.resource_name, self._offered_endpoint)
                break
            except AttemptFailedError as failure:
                self._record_failure(failure)
                if failure.kubelet_listens:
                    await self._sleep(self._retry_backoff.next_delay())
                else:
                    self._retry_backoff.reset()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ABSENT_REPORT_SECONDS):
                            await self._kubelet_watch.wait()
                            if self._yields:
                                await self._sleep(YIELD_SECONDS)
        self._registered_at = self._clock()
        self._peers.record_registration(endpoint.path, within=REGISTER_SECONDS)
        self.status.cause = cause
        self.status.problem = self.status.code = ""
        self.status.registrations += 1
        self._metrics.registrations.labels(self.resource_name, cause).inc()
        self._set_registered(registered=True)
        _logger.info("registered", extra={"resource": self.resource_name, "cause": cause, "socket": endpoint.path.name})
        await self._serving.close_former()
        return endpoint

    async def _offered_endpoint(self) -> Endpoint:
        self._offered_at = self._clock()
        return await self._serving.ensure_served()

    def _record_failure(self, failure: AttemptFailedError) -> None:
        if failure.what != self.status.problem:
            _logger.warning("not registered yet", extra={"resource": self.resource_name, "reason": failure.what})
        self.status.problem, self.status.code = failure.what, failure.error_code
        if failure.path_is_used:
            self._serving.mark_path_used()
        if failure.kubelet_listens:
            self._metrics.registration_failures.labels(self.resource_name).inc()

    def _set_registered(self, *, registered: bool) -> None:
        self.status.registered = registered
        self._metrics.registered.labels(self.resource_name).set(registered)


async def _until_lost(endpoint: Endpoint, peers: PeerInstances) -> RegistrationCause:
    while True:
        try:
            async with asyncio.timeout(SOCKET_CHECK_SECONDS):
                await endpoint.servicer.streams.lost.wait()
        except TimeoutError:
            if not endpoint.path_exists():
                return RegistrationCause.SOCKET_LOST
            if peers.any_ended():
                return RegistrationCause.SIBLING_ENDED
        else:
            return RegistrationCause.STREAM_LOST
