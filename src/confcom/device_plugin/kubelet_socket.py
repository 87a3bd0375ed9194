"""Checks whether a kubelet listens at the kubelet's socket, and connects to that kubelet."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from confcom.daemon.socket_path import PathState, inspect_socket
from confcom.errors import UnavailableError

POLL_SECONDS = 0.01
"""Seconds between polls. A restarted kubelet listens a fraction of a second before it reports the node's
resources. The API shows 0 for ten seconds for a resource that is not registered by then. A poll is one lstat and
one connect; all polls take under 1% of a CPU. The few inotify instances of a node are left to other programs."""


class KubeletAbsentError(UnavailableError):
    """No kubelet listens at the socket, or this user may not connect to the kubelet."""


@dataclass(slots=True)
class KubeletWatch:
    """Waits until a kubelet listens. If several callers wait at once, only one of them polls."""

    socket: Path
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _polling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def wait(self) -> None:
        async with self._polling:
            while kubelet_absence(self.socket):
                await self.sleep(POLL_SECONDS)


async def connect(channel: grpc.aio.Channel, kubelet_socket: Path) -> None:
    """Connect once, as gRPC retries only after a second. A kubelet that ends closes its connections first."""
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            what = f"the program at {kubelet_socket} closed the connection"
            raise UnavailableError(what, error_code="kubelet-disconnected")
        await channel.wait_for_state_change(state)


def kubelet_absence(kubelet_socket: Path) -> KubeletAbsentError | None:
    try:
        state = inspect_socket(kubelet_socket).state
    except UnavailableError as error:
        what, code = f"this user may not connect to {kubelet_socket}: {error.why}", "kubelet-forbidden"
    except OSError as error:  # for example, no descriptor is free
        what, code = f"{kubelet_socket} cannot be looked at: {error.strerror}", "kubelet-absent"
    else:
        if state is PathState.LIVE:
            return None
        what, code = f"no kubelet listens at {kubelet_socket}: found {state.value}", "kubelet-absent"
    return KubeletAbsentError(what, error_code=code)
