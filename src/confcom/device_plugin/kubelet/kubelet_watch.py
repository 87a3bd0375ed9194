"""A wait for the kubelet's registration socket, shared by all resources of the plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from confcom.device_plugin.kubelet.registration_attempt import kubelet_absence

POLL_SECONDS = 0.01
"""A kubelet that restarts listens a fraction of a second before it reports the node's resources for the next ten, and
what is not registered by then is 0 in the API. A poll is one lstat and one connect, so all polls take less than 1% of a
processor while the kubelet is away. inotify would save them; a node has few instances of it, which others need."""


class KubeletWatch:
    """Waits until a kubelet listens. However many wait, only one of them polls."""

    def __init__(self, kubelet_socket: Path, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._kubelet_socket = kubelet_socket
        self._sleep = sleep
        self._polling = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until a kubelet listens."""
        async with self._polling:
            while kubelet_absence(self._kubelet_socket):
                await self._sleep(POLL_SECONDS)
