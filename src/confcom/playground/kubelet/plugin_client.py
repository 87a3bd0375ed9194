"""The kubelet's connection to one device plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import grpc.aio

from confcom.errors import UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import HEALTHY, DevicePluginStub, unix_channel
from confcom.playground.kubelet.ledger import AdmissionError

ALLOCATE_SECONDS = 60.0
"""Deadline for Allocate. The real kubelet waits for ever, which blocks its whole node; here the pod fails instead."""

_CLOSING = "rpc error: code = Canceled desc = grpc: the client connection is closing"
"""The error of grpc-go, and so of the kubelet, for a call whose connection it closes (ErrClientConnClosing)."""


class PluginClient:
    """The client of one registered plugin: a channel to the socket that `Register` named."""

    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self._closed = False
        self._channel = unix_channel(str(socket))
        self._stub = DevicePluginStub(self._channel)

    async def connect(self, seconds: float) -> pb.DevicePluginOptions:
        """Dial the plugin and call GetDevicePluginOptions; on failure, close the client.

        Raises:
            UnavailableError: the plugin cannot be reached, or does not answer in time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
                return await self._stub.get_device_plugin_options(pb.Empty())
        except asyncio.CancelledError:
            await self.close()
            raise
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            await self.close()
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else "context deadline exceeded"
            raise UnavailableError(
                f"failed to dial device plugin: {reason}",
                error_code="plugin-not-dialled",
                why=f"nothing answers at {self.socket}" if self.socket.exists() else f"there is no {self.socket}",
                remedy="a plugin must serve before it registers",
            ) from None

    async def list_and_watch(self) -> AsyncIterator[dict[str, bool]]:
        """Yield every device list that the plugin sends, as ID -> healthy, until the stream ends.

        Raises:
            UnavailableError: the stream broke, or a list exceeded the kubelet's limit for a message.
        """
        try:
            async for response in self._stub.list_and_watch(pb.Empty()):
                yield {device.ID: device.health == HEALTHY for device in response.devices}
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                "ListAndWatch ended unexpectedly",
                error_code="list-ended",
                why=f"{error.code().name}: {error.details()}",
            ) from None

    async def allocate(self, ids: Sequence[str]) -> pb.ContainerAllocateResponse:
        """Call Allocate for one container with these devices.

        Raises:
            AdmissionError: the call failed, or the response is for no container.
        """
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        try:
            response = await self._stub.allocate(request, timeout=ALLOCATE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise AdmissionError(
                f"rpc error: code = {_go_name(error.code())} desc = {error.details()}",
                why="the device plugin answered so to Allocate",
            ) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise AdmissionError(
                _CLOSING,
                why="the device plugin was disconnected before it had answered Allocate",
            ) from None
        if not response.container_responses:
            raise AdmissionError("no containers return in allocation response ")
        return response.container_responses[0]

    async def close(self) -> None:
        """Close the channel, which ends its streams and calls."""
        self._closed = True
        await self._channel.close()


def _go_name(code: grpc.StatusCode) -> str:
    """Return the code as grpc-go, and so the kubelet in a pod's message, writes it, such as `DeadlineExceeded`."""
    if code is grpc.StatusCode.CANCELLED:
        return "Canceled"
    return "".join(word.capitalize() for word in code.name.split("_"))
