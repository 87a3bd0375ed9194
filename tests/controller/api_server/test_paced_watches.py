"""Watches that the API server ends at once are not begun in a loop."""

import asyncio
import json

import httpx2

from confcom.controller.api_server.paced_watches import PacedWatches
from confcom.controller.limits_and_deadlines import LONGEST_RETRY_SECONDS, SHORT_WATCH_SECONDS
from testkit.controller import api_of

EVENT = json.dumps({"type": "MODIFIED", "object": {"metadata": {"name": "a", "resourceVersion": "8"}}})


class Server:
    """Ends each watch with 200, after so many seconds, and gives one event in the last one."""

    def __init__(self, watches, *, lasting=0.0):
        self.now = 0.0
        self.slept: list[float] = []
        self.asked = 0
        self._watches, self._lasting = watches, lasting

    def answer(self, request):
        if "watch" not in request.url.params:
            return httpx2.Response(200, json={"metadata": {"resourceVersion": "7"}, "items": []})
        self.asked += 1
        self.now += self._lasting
        return httpx2.Response(200, text=EVENT if self.asked == self._watches else "")

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def api(self):
        paced = PacedWatches(
            httpx2.MockTransport(self.answer), clock=lambda: self.now, jitter=lambda: 1.0, sleep=self.sleep
        )
        return api_of(paced)


async def first_event(feed):
    """Watch until there is an event, as a follower does."""
    while True:
        async for event, _ in feed.watch("7"):
            return event


async def test_each_short_watch_makes_the_next_one_wait_longer():
    server = Server(8)
    assert await first_event(server.api().nodes) == "MODIFIED"
    assert server.slept == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS]
    assert server.asked == 8


async def test_watches_that_last_do_not_wait():
    server = Server(5, lasting=SHORT_WATCH_SECONDS)
    await first_event(server.api().nodes)
    assert server.slept == []
