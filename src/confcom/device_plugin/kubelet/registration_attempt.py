"""One attempt to register one resource with the kubelet, in an order that is safe while the kubelet starts.

A kubelet that starts removes every socket in the directory before it listens, and it dials the plugin back while it
answers Register. Hence the order: connect to the kubelet, make sure that our own socket is served, call Register over
that connection, then wait for the kubelet's stream while watching the connection. Checking our socket before connecting
would lose 10 s to a dial-back that finds no socket (measured, 4 of 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio

from confcom.daemon.socket_path import PathState, inspect_path
from confcom.daemon.supervision import run_unless
from confcom.device_plugin.kubelet.endpoint import Endpoint
from confcom.errors import ConfcomError, UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import API_VERSION, RegistrationStub, unix_channel

CONNECT_SECONDS = 2.0
"""A listening unix socket accepts at once; a kubelet that takes longer is stopped or overloaded."""
REGISTER_SECONDS = 12.0
"""The kubelet dials back for up to 10 s before it answers; a longer deadline lets its own error arrive."""
FIRST_STREAM_SECONDS = 10.0
"""From a successful Register to the kubelet's ListAndWatch, which normally comes within milliseconds."""


class AttemptFailedError(ConfcomError):
    """An attempt to register failed; a later one may succeed.

    `path_is_used`: the kubelet may know our path although Register failed; from 1.37 on it refuses one that it knows.
    """

    def __init__(self, what: str, *, error_code: str, kubelet_listens: bool = True, path_is_used: bool = False) -> None:
        super().__init__(what, error_code=error_code)
        self.kubelet_listens = kubelet_listens
        self.path_is_used = path_is_used


async def register_once(
    kubelet_socket: Path, resource_name: str, served_endpoint: Callable[[], Awaitable[Endpoint]]
) -> Endpoint:
    """Register, and wait until the kubelet opens its ListAndWatch stream; return the registered endpoint."""
    if absence := kubelet_absence(kubelet_socket):
        raise absence
    async with unix_channel(str(kubelet_socket)) as channel:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await _connect(channel, kubelet_socket)
            endpoint = await served_endpoint()
            endpoint.servicer.streams.expect()
            request = pb.RegisterRequest(version=API_VERSION, endpoint=endpoint.path.name, resource_name=resource_name)
            await RegistrationStub(channel).register(request, timeout=REGISTER_SECONDS)
        except TimeoutError:
            raise AttemptFailedError(
                f"the program at {kubelet_socket} does not speak gRPC", error_code="kubelet-without-grpc"
            ) from None
        except grpc.aio.AioRpcError as error:
            raise AttemptFailedError(
                f"the kubelet answers {error.code().name}: {error.details()}",
                error_code="register-refused",
                path_is_used=True,
            ) from error
        except AttemptFailedError:
            raise
        except ConfcomError as error:
            raise AttemptFailedError(str(error), error_code=error.error_code) from error
        # Do not wait longer once the registration connection is closed.
        closed = channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        opened = endpoint.servicer.streams.opened
        await run_unless(closed, opened.wait(), seconds=FIRST_STREAM_SECONDS)
        if not opened.is_set():
            raise AttemptFailedError(
                "the kubelet accepted Register but did not call ListAndWatch", error_code="list-not-requested"
            )
    return endpoint


async def _connect(channel: grpc.aio.Channel, kubelet_socket: Path) -> None:
    """Connect, once: gRPC would try again after a second, and a kubelet that ends closes its connections first."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            raise AttemptFailedError(
                f"the program at {kubelet_socket} closed the connection", error_code="kubelet-disconnected"
            )
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)


def kubelet_absence(kubelet_socket: Path) -> AttemptFailedError | None:
    """Return why no kubelet listens at its registration socket; None if one does."""
    try:
        state = inspect_path(kubelet_socket)
    except UnavailableError as error:
        return AttemptFailedError(
            f"this user may not connect to {kubelet_socket}: {error.why}",
            error_code="kubelet-forbidden",
            kubelet_listens=False,
        )
    if state is PathState.LIVE:
        return None
    return AttemptFailedError(
        f"no kubelet listens at {kubelet_socket}: found {state.value}",
        error_code="kubelet-absent",
        kubelet_listens=False,
    )
