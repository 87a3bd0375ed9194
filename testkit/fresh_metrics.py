import asyncio
import time

from confcom.daemon.probe_server import RENDERING_SECONDS, SLICE_SECONDS


class FreshPage:
    """When a daemon's metrics may be asked for so that they are rendered anew, if nobody else asks."""

    def __init__(self, rendering_seconds: float = RENDERING_SECONDS) -> None:
        self._rendering_seconds = rendering_seconds
        self._due = 0.0

    def wait(self) -> None:
        """Wait until the next page is a new one; the first one is."""
        time.sleep(max(0.0, self._due - time.monotonic()))

    async def wait_async(self) -> None:
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))

    def received(self) -> None:
        """A page is here, so it was rendered by now."""
        self._due = time.monotonic() + self._rendering_seconds + 2 * SLICE_SECONDS
