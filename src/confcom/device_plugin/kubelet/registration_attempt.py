"""One attempt to register one resource with the kubelet, in the order that a starting kubelet asks for.

A kubelet that starts removes every socket in the directory before it listens, and while it answers Register it dials
the plugin back. Hence the order: connect to the kubelet, then see that our own socket is served, then Register over
that connection, then wait there for the kubelet's stream. Looking at our socket before the connection loses 10 s to a
dial-back that finds nothing (measured, 4 of 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio

from confcom.daemon.socket_path import PathState, inspect_path
from confcom.device_plugin.kubelet.endpoint import Endpoint
from confcom.errors import ConfcomError, UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import API_VERSION, RegistrationStub, unix_channel

CONNECT_SECONDS = 2.0
"""A unix socket that listens accepts at once; a kubelet that takes longer is stopped or overwhelmed."""
REGISTER_SECONDS = 12.0
"""The kubelet dials back for up to 10 s before it answers, so that its own reason arrives rather than our deadline."""
FIRST_STREAM_SECONDS = 10.0
"""From a successful Register to the kubelet's ListAndWatch; it normally comes within milliseconds."""


class AttemptFailedError(Exception):
    """An attempt failed for a reason that the next one may not meet.

    Args:
        problem: the reason, for people.
        kubelet_listens: whether there is a kubelet at all.
        path_is_used: whether the kubelet may know our path all the same: from 1.37 on it refuses a known one.
    """

    def __init__(self, problem: str, *, kubelet_listens: bool = True, path_is_used: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.kubelet_listens = kubelet_listens
        self.path_is_used = path_is_used


async def register_once(
    kubelet_socket: Path, resource_name: str, served_endpoint: Callable[[], Awaitable[Endpoint]]
) -> Endpoint:
    """Register, and wait until the kubelet asks for the list.

    Args:
        kubelet_socket: its registration socket.
        resource_name: what is registered.
        served_endpoint: gives one that answers now.

    Returns:
        The endpoint that is registered.

    Raises:
        AttemptFailedError: it is not.
    """
    if absence := why_no_kubelet(kubelet_socket):
        raise AttemptFailedError(absence, kubelet_listens=False)
    async with unix_channel(str(kubelet_socket)) as channel:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await channel.channel_ready()
            endpoint = await served_endpoint()
            endpoint.servicer.streams.expect()
            request = pb.RegisterRequest(version=API_VERSION, endpoint=endpoint.path.name, resource_name=resource_name)
            await RegistrationStub(channel).register(request, timeout=REGISTER_SECONDS)
        except TimeoutError:
            raise AttemptFailedError(f"{kubelet_socket} speaks no gRPC") from None
        except grpc.aio.AioRpcError as error:
            answer = f"the kubelet answers {error.code().name}: {error.details()}"
            raise AttemptFailedError(answer, path_is_used=True) from error
        except ConfcomError as error:
            raise AttemptFailedError(str(error)) from error
        if not await _first_stream(endpoint, channel):
            raise AttemptFailedError("the kubelet accepted Register and did not ask for the list")
    return endpoint


def why_no_kubelet(kubelet_socket: Path) -> str:
    """Why nobody could be registered with there, or nothing."""
    try:
        state = inspect_path(kubelet_socket)
    except UnavailableError as error:
        return f"{kubelet_socket} may not be connected to: {error.why}"
    return "" if state is PathState.LIVE else f"there is {state.value} at {kubelet_socket}"


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
