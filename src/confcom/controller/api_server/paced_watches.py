"""Pauses between watches that end soon: a watch is begun anew at once when the API server has ended it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx2

from confcom.controller.limits_and_deadlines import SHORT_WATCH_SECONDS
from confcom.controller.pacing import retry_pause


class PacedWatches(httpx2.AsyncBaseTransport):
    """Passes requests on; a watch whose predecessor was short waits first, longer each time.

    Args:
        inner: sends the requests.
        clock: monotonic seconds.
        jitter: a random number from 0 to 1.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._begun: dict[str, tuple[float, int]] = {}
        """By path: when its last watch was sent, and how many short ones there were in a row before it."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, when its time has come."""
        if "watch" in request.url.params and (pause := self._pause(request.url.path)):
            await self._sleep(pause)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    def _pause(self, path: str) -> float:
        now = self._clock()
        begun, short = self._begun.get(path, (float("-inf"), 0))
        short = short + 1 if now - begun < SHORT_WATCH_SECONDS else 0
        pause = retry_pause(short - 1, self._jitter) if short else 0.0
        self._begun[path] = (now + pause, short)
        return pause
