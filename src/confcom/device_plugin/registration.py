"""Staying registered with the kubelet, for one resource, through everything that a kubelet does.

A kubelet that starts removes every socket in the directory before it listens, and while it answers Register it dials
the plugin back. Hence the order of an attempt: connect to the kubelet, then see that our own socket is served, then
Register over that connection, then wait there for the kubelet's stream. Looking at our socket before the connection
loses 10 s to a dial-back that finds nothing (measured, 4 of 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from confcom.daemon.unix_socket import PathState, inspect_path
from confcom.device_plugin.backoff import Backoff
from confcom.device_plugin.device_watch import Presence
from confcom.device_plugin.endpoint import Endpoint
from confcom.device_plugin.metrics import PluginMetrics
from confcom.errors import ConfcomError, UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import API_VERSION, RegistrationStub, unix_channel

_logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
"""A unix socket that listens accepts at once; a kubelet that takes longer is stopped or overwhelmed."""
REGISTER_SECONDS = 12.0
"""The kubelet dials back for up to 10 s before it answers, so that its own reason arrives rather than our deadline."""
FIRST_STREAM_SECONDS = 10.0
"""From a successful Register to the kubelet's ListAndWatch; it normally comes within milliseconds."""
SOCKET_CHECK_SECONDS = 1.0
"""How often a registered plugin looks whether its socket's path is still there; one lstat."""
STEADY_SECONDS = 1.0
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
    """The kubelet restarted, or another instance for the same resource ended."""
    SOCKET_LOST = "socket_lost"
    """Our socket's path was removed while the stream went on; nobody could dial us again."""
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


class _AttemptFailedError(Exception):
    """An attempt failed for a reason that the next one may not meet."""

    def __init__(self, problem: str, *, kubelet_listens: bool = True) -> None:
        super().__init__(problem)
        self.problem = problem
        self.kubelet_listens = kubelet_listens


class Registrar:
    """Serves one resource and keeps it registered.

    Args:
        resource_name: what is registered.
        kubelet_socket: the kubelet's registration socket; it may be missing for as long as it likes.
        new_endpoint: makes an endpoint that is not yet served, with a path never used before.
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
        metrics: PluginMetrics,
        jitter: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.status = RegistrationStatus()
        self.resource_name = resource_name
        self._kubelet_socket = kubelet_socket
        self._new_endpoint = new_endpoint
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._absent = Backoff(ABSENT_FIRST_SECONDS, ABSENT_LIMIT_SECONDS, jitter)
        self._retry = Backoff(RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS, jitter)
        self._endpoint: Endpoint | None = None
        self._path_is_spent = False
        """Whether the kubelet may know the path from a Register that failed: from 1.37 on it refuses a known one."""

    @property
    def socket_path(self) -> Path | None:
        """Where the resource is served now."""
        return None if self._endpoint is None else self._endpoint.path

    async def start(self) -> None:
        """Serve. From here on the kubelet could be answered.

        Raises:
            UnavailableError: the socket cannot be bound.
        """
        await self._serve_anew()

    async def run_while(self, device: Presence) -> None:
        """Stay registered while the device is there, and unregistered while it is not, until cancelled.

        A lost device ends the kubelet's stream, which leaves the devices in the node's capacity and takes them from
        what can be allocated. The server goes with it, so that nobody is given a device that is not there.
        """
        cause = RegistrationCause.START
        while True:
            if device.gone.is_set():
                await self._wait_unregistered(device)
                cause = RegistrationCause.DEVICE_BACK
            await _first_done(self.run(cause), device.gone.wait())

    async def _wait_unregistered(self, device: Presence) -> None:
        await self.close()
        self.status.problem = device.why_gone
        _logger.warning("not offered any more", extra={"resource": self.resource_name, "reason": device.why_gone})
        await device.there.wait()
        with contextlib.suppress(ConfcomError):  # it is tried again for each attempt to register, and told then
            await self.start()

    async def run(self, cause: RegistrationCause = RegistrationCause.START) -> None:
        """Register, and again whenever it is needed, until cancelled."""
        while True:
            endpoint = await self._register(cause)
            registered_at = self._clock()
            cause = await _until_lost(endpoint)
            self._show_registered(registered=False)
            _logger.warning("no longer registered", extra={"resource": self.resource_name, "cause": cause})
            if self._clock() - registered_at >= STEADY_SECONDS:
                self._retry.reset()
            elif not self._why_no_kubelet():
                await self._sleep(self._retry.next_delay())

    async def close(self) -> None:
        """End the kubelet's stream and the server, and remove the socket."""
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None
        self._show_registered(registered=False)

    async def _register(self, cause: RegistrationCause) -> Endpoint:
        while True:
            try:
                endpoint = await self._attempt()
                break
            except _AttemptFailedError as failure:
                self._note_failure(failure)
                if failure.kubelet_listens:
                    self._absent.reset()
                    await self._sleep(self._retry.next_delay())
                else:
                    self._retry.reset()
                    await self._sleep(self._absent.next_delay())
        self._absent.reset()
        self.status.cause = cause
        self.status.problem = ""
        self.status.registrations += 1
        self._metrics.registrations.labels(self.resource_name, cause).inc()
        self._show_registered(registered=True)
        _logger.info("registered", extra={"resource": self.resource_name, "cause": cause, "socket": endpoint.path.name})
        return endpoint

    async def _attempt(self) -> Endpoint:
        if absence := self._why_no_kubelet():
            raise _AttemptFailedError(absence, kubelet_listens=False)
        async with unix_channel(str(self._kubelet_socket)) as channel:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await channel.channel_ready()
                endpoint = await self._served_endpoint()
                endpoint.servicer.streams.expect()
                request = pb.RegisterRequest(
                    version=API_VERSION, endpoint=endpoint.path.name, resource_name=self.resource_name
                )
                await RegistrationStub(channel).register(request, timeout=REGISTER_SECONDS)
            except TimeoutError:
                raise _AttemptFailedError(f"{self._kubelet_socket} speaks no gRPC") from None
            except grpc.aio.AioRpcError as error:
                self._path_is_spent = True
                raise _AttemptFailedError(f"the kubelet answers {error.code().name}: {error.details()}") from error
            except ConfcomError as error:
                raise _AttemptFailedError(str(error)) from error
            if not await _first_stream(endpoint, channel):
                raise _AttemptFailedError("the kubelet accepted Register and did not ask for the list")
        return endpoint

    def _why_no_kubelet(self) -> str:
        try:
            state = inspect_path(self._kubelet_socket)
        except UnavailableError as error:
            return f"{self._kubelet_socket} may not be connected to: {error.why}"
        return "" if state is PathState.LIVE else f"there is {state.value} at {self._kubelet_socket}"

    def _note_failure(self, failure: _AttemptFailedError) -> None:
        if failure.problem != self.status.problem:
            _logger.info("not registered yet", extra={"resource": self.resource_name, "reason": failure.problem})
        self.status.problem = failure.problem
        if failure.kubelet_listens:
            self._metrics.registration_failures.labels(self.resource_name).inc()

    async def _served_endpoint(self) -> Endpoint:
        if self._endpoint is not None and not self._path_is_spent and self._endpoint.answers():
            return self._endpoint
        why = "the kubelet may know the old one" if self._path_is_spent else "the old one is gone"
        _logger.info("serving at a new socket", extra={"resource": self.resource_name, "reason": why})
        return await self._serve_anew()

    async def _serve_anew(self) -> Endpoint:
        if self._endpoint is not None:
            await self._endpoint.close()
            self._endpoint = None
        self._endpoint = endpoint = self._new_endpoint()
        self._path_is_spent = False
        try:
            await endpoint.start()
        except ConfcomError:
            self._endpoint = None
            raise
        return endpoint

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


async def _first_stream(endpoint: Endpoint, channel: grpc.aio.Channel) -> bool:
    """Whether the kubelet asks for the list; given up at once when its end of the registration connection goes."""
    opened = endpoint.servicer.streams.opened
    asked = asyncio.create_task(opened.wait())
    gone = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
    try:
        await asyncio.wait({asked, gone}, timeout=FIRST_STREAM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        gone.cancel()
        await asyncio.gather(asked, gone, return_exceptions=True)
    return opened.is_set()


async def _until_lost(endpoint: Endpoint) -> RegistrationCause:
    while True:
        try:
            async with asyncio.timeout(SOCKET_CHECK_SECONDS):
                await endpoint.servicer.streams.lost.wait()
        except TimeoutError:
            if not endpoint.has_path():
                return RegistrationCause.SOCKET_LOST
        else:
            return RegistrationCause.STREAM_LOST
