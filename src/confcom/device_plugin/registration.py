"""Registers one resource with the kubelet, and registers it again at a new socket after each loss.

Each registration has its own socket, since a 1.37 kubelet refuses a path that it knows. The former socket is
closed when the kubelet has opened the new socket's stream. Up to 1.36, the end of a former stream that was
still open ends the new stream too; the resource is then registered once more.

A starting kubelet removes every socket in the directory before it listens. Before a kubelet answers Register,
it connects to the plugin's socket; it waits 10 s for a missing socket (measured, 4 of 4). All resources are
served before the first Register: starting a gRPC server during a Register would delay the list.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from confcom.daemon.backoff import retry_pause
from confcom.device_plugin.device_watch import DeviceAvailability
from confcom.device_plugin.endpoint import Endpoint
from confcom.device_plugin.kubelet_socket import KubeletAbsentError, KubeletWatch, connect, kubelet_absence
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.socket_names import PeerInstances
from confcom.errors import ConfcomError, UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import API_VERSION, RegistrationStub, unix_channel

_logger = logging.getLogger(__name__)

T = TypeVar("T")

YIELD_SECONDS = 0.05
"""Seconds by which resources that yield are registered later when a kubelet starts. All registrations take 35
ms of CPU. For a resource registered after its first report, the kubelet reports 0 for ten seconds."""
ABSENT_REPORT_SECONDS = 1.0
"""Seconds between checks of the reason why no kubelet listens: a missing, stale or forbidden socket."""
CONNECT_SECONDS = 2.0
"""Timeout for connecting. A unix socket accepts at once, unless the kubelet is stopped or overloaded."""
REGISTER_SECONDS = 12.0
"""Timeout of Register. The kubelet tries for 10 s to connect to the plugin, then answers with an error."""
FIRST_STREAM_SECONDS = 10.0
"""Maximum seconds from a successful Register to the kubelet's ListAndWatch; milliseconds are usual."""
SOCKET_CHECK_SECONDS = 1.0
"""Seconds between a registered plugin's checks whether its socket's path exists, and which other instances
run. A check takes one lstat, one directory listing, and a connect to each socket of other instances."""
MIN_VISIBLE_SECONDS = 1.5 * SOCKET_CHECK_SECONDS
"""Minimum seconds, with a margin, that a plugin serves after Register so that other plugins see it."""
STABLE_SECONDS = 1.0
"""After a registration that lasted this many seconds, the next attempt follows without a delay."""
RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS = 0.02, 5.0
"""Pauses after a kubelet refused the plugin, or ended its stream at once. One known plugin without pauses calls the
kubelet 300 times a second. The backoff is reset when the kubelet ends: the next kubelet may accept the plugin."""


class RegistrationCause(StrEnum):
    START = "start"
    STREAM_LOST = "stream_lost"
    """The kubelet restarted; or, up to 1.36, another plugin that had registered before us ended."""
    SOCKET_LOST = "socket_lost"
    """Our socket's path was removed, so that the kubelet could not connect again. The stream stayed open."""
    SIBLING_ENDED = "sibling_ended"
    """A kubelet up to 1.36 lost the resource because another plugin, which had registered after us, ended."""
    DEVICE_BACK = "device_back"
    """The SGX device is present again; we had ended the stream when the device was lost."""


@dataclass(slots=True)
class RegistrationStatus:
    registered: bool = False  # the kubelet watches our list now
    registrations: int = 0  # number of registrations since the start that led to a stream
    cause: RegistrationCause = RegistrationCause.START
    problem: str = ""
    code: str = ""


@dataclass(slots=True)
class Registrar:
    """Serves a resource and keeps it registered; one that `yields` goes last, as tenants rarely need it."""

    resource_name: str
    kubelet: KubeletWatch
    new_endpoint: Callable[[], Endpoint]
    peers: PeerInstances
    yields: bool
    metrics: PluginMetrics
    jitter: Callable[[], float]
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    status: RegistrationStatus = field(
        default_factory=lambda: RegistrationStatus(problem="not tried yet", code="not-tried")
    )
    _endpoint: Endpoint | None = None
    """The endpoint whose list the kubelet watches, or watched last."""
    _offered: Endpoint | None = None
    """The endpoint of the registration attempt that is in progress."""
    _failures: int = 0
    _registered_at: float = -math.inf
    _offered_at: float = -math.inf

    def __post_init__(self) -> None:
        self._set_registered(registered=False)

    @property
    def socket_path(self) -> Path | None:
        return None if self._endpoint is None else self._endpoint.path

    async def run_while(self, device: DeviceAvailability) -> None:
        """Until cancelled, keep the resource registered while the device is available, and unregistered otherwise.

        When a device is lost, the kubelet's stream is ended; the resource stays in the node's capacity, but
        allocatable is 0. The server stops too; otherwise a container could get a device that is missing.
        """
        cause = RegistrationCause.START
        while True:
            if problem := device.problem:
                await self.close()
                self.status.problem, self.status.code = str(problem), problem.code
                extra = {"resource": self.resource_name, "reason": str(problem)}
                _logger.warning("no longer offered", extra=extra)
                await device.available.wait()
                cause = RegistrationCause.DEVICE_BACK
            await run_unless(device.unavailable.wait(), self.run(cause))

    async def run(self, cause: RegistrationCause = RegistrationCause.START) -> None:
        """Register the resource, and again after each loss of the registration, until cancelled."""
        while True:
            cause = await _until_lost(await self._register(cause), self.peers)
            self._set_registered(registered=False)
            _logger.warning("no longer registered", extra={"resource": self.resource_name, "cause": cause})
            if self.clock() - self._registered_at >= STABLE_SECONDS:
                self._failures = 0
            elif not kubelet_absence(self.kubelet.socket):
                await self._pause()

    async def end(self) -> None:
        """Give older plugins time to see this socket, so that they can notice its removal; then close it."""
        remaining = self._offered_at + MIN_VISIBLE_SECONDS - self.clock()
        if remaining > 0 and self.peers.any_alive():
            await self.sleep(remaining)
        await self.close()

    async def close(self) -> None:
        ending, self._endpoint, self._offered = (self._endpoint, self._offered), None, None
        await asyncio.gather(*(endpoint.close() for endpoint in ending if endpoint is not None))
        self._set_registered(registered=False)

    async def _register(self, cause: RegistrationCause) -> Endpoint:
        while True:
            try:
                endpoint = await self._attempt()
                break
            except ConfcomError as failure:
                if self._offered is not None:
                    await self._offered.close()
                reason = str(failure)
                if reason != self.status.problem:
                    _logger.warning("not registered yet", extra={"resource": self.resource_name, "reason": reason})
                self.status.problem, self.status.code = reason, failure.error_code
                if isinstance(failure, KubeletAbsentError):
                    self._failures = 0
                    await self._wait_for_kubelet()
                else:
                    self.metrics.registration_failures.labels(self.resource_name).inc()
                    await self._pause()
        former, self._endpoint, self._offered = self._endpoint, endpoint, None
        self._registered_at = self.clock()
        self.peers.record_registration(endpoint.path, within=REGISTER_SECONDS)
        self.status.cause = cause
        self.status.problem = self.status.code = ""
        self.status.registrations += 1
        self.metrics.registrations.labels(self.resource_name, cause).inc()
        self._set_registered(registered=True)
        _logger.info("registered", extra={"resource": self.resource_name, "cause": cause, "socket": endpoint.path.name})
        if former is not None:
            await former.close()
        return endpoint

    async def _pause(self) -> None:
        pause = retry_pause(self._failures, self.jitter, first=RETRY_FIRST_SECONDS, longest=RETRY_LIMIT_SECONDS)
        self._failures += 1
        await self.sleep(pause)

    async def _wait_for_kubelet(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABSENT_REPORT_SECONDS):
                await self.kubelet.wait()
                if self.yields:
                    await self.sleep(YIELD_SECONDS)

    async def _attempt(self) -> Endpoint:
        """Register with a new endpoint, and return the endpoint once the kubelet has opened its stream."""
        if absence := kubelet_absence(self.kubelet.socket):
            raise absence
        self._offered = endpoint = self.new_endpoint()
        async with unix_channel(str(self.kubelet.socket)) as channel:
            try:
                await endpoint.start()
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connect(channel, self.kubelet.socket)
                if not endpoint.path_exists():
                    what = f"the kubelet removed {endpoint.path} while it started"
                    raise UnavailableError(what, error_code="plugin-socket-removed")
                self._offered_at = self.clock()
                request = pb.RegisterRequest(
                    version=API_VERSION, endpoint=endpoint.path.name, resource_name=self.resource_name
                )
                await RegistrationStub(channel).register(request, timeout=REGISTER_SECONDS)
            except TimeoutError:
                what = f"the program at {self.kubelet.socket} is silent, or not gRPC's"
                raise UnavailableError(what, error_code="kubelet-without-grpc") from None
            except grpc.aio.AioRpcError as error:
                what = f"the kubelet answers {error.code().name}: {error.details()}"
                raise UnavailableError(what, error_code="register-refused") from error
            # The wait for the stream ends when the connection that Register used is closed.
            closed = channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            opened = endpoint.opened
            await run_unless(closed, opened.wait(), seconds=FIRST_STREAM_SECONDS)
            if not opened.is_set():
                what = "the kubelet accepted Register but did not call ListAndWatch"
                raise UnavailableError(what, error_code="list-not-requested")
        return endpoint

    def _set_registered(self, *, registered: bool) -> None:
        self.status.registered = registered
        self.metrics.registered.labels(self.resource_name).set(registered)


async def _until_lost(endpoint: Endpoint, peers: PeerInstances) -> RegistrationCause:
    while True:
        try:
            async with asyncio.timeout(SOCKET_CHECK_SECONDS):
                await endpoint.lost.wait()
        except TimeoutError:
            if not endpoint.path_exists():
                return RegistrationCause.SOCKET_LOST
            if peers.any_ended():
                return RegistrationCause.SIBLING_ENDED
        else:
            return RegistrationCause.STREAM_LOST


async def run_unless(
    interruption: Coroutine[Any, Any, object], work: Coroutine[Any, Any, T], *, seconds: float | None = None
) -> T | None:
    """Return the result of `work`, or None if `interruption` or `seconds` end first; on return, neither runs."""
    interrupting, working = asyncio.create_task(interruption), asyncio.create_task(work)
    try:
        await asyncio.wait({interrupting, working}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        interrupting.cancel()
        working.cancel()
        await asyncio.gather(interrupting, working, return_exceptions=True)
    return None if working.cancelled() else working.result()
