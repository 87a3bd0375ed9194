"""The kubelet's socket: whether a kubelet listens there, and connecting to it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from confcom.daemon.socket_path import PathState, inspect_socket
from confcom.errors import UnavailableError

POLL_SECONDS = 0.01
"""Interval of polls. A restarted kubelet listens a fraction of a second before it reports the node's resources; a
resource not registered by then is 0 in the API for ten seconds. A poll is one lstat and one connect: polls take less
than 1% of a CPU while the kubelet is away. inotify is not used: a node has few instances, and others need them."""


class KubeletAbsentError(UnavailableError):
    """No kubelet listens, or none that this user may connect to."""


@dataclass(slots=True)
class KubeletWatch:
    """Waits until a kubelet listens. Of several concurrent waits, only one polls."""

    socket: Path
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _polling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def wait(self) -> None:
        async with self._polling:
            while kubelet_absence(self.socket):
                await self.sleep(POLL_SECONDS)


async def connect(channel: grpc.aio.Channel, kubelet_socket: Path) -> None:
    """Connect once: gRPC would retry after a second, and a kubelet that ends closes its connections first."""
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            raise UnavailableError(
                f"the program at {kubelet_socket} closed the connection", error_code="kubelet-disconnected"
            )
        await channel.wait_for_state_change(state)


def kubelet_absence(kubelet_socket: Path) -> KubeletAbsentError | None:
    try:
        state = inspect_socket(kubelet_socket).state
    except UnavailableError as error:
        what, code = f"this user may not connect to {kubelet_socket}: {error.why}", "kubelet-forbidden"
    except OSError as error:  # no descriptor or no memory is left
        what, code = f"{kubelet_socket} cannot be looked at: {error.strerror}", "kubelet-absent"
    else:
        if state is PathState.LIVE:
            return None
        what, code = f"no kubelet listens at {kubelet_socket}: found {state.value}", "kubelet-absent"
    return KubeletAbsentError(what, error_code=code)
