"""Calls of aesmd for clients in the helper's event loop, so that relaying a quote needs no further thread."""

import asyncio
import functools
import select
from collections.abc import Callable
from typing import Any, Final

from confcom.aesm.conversation import Conversation
from confcom.aesm.request_checks import Need
from confcom.client.address import SocketClient
from confcom.client.asynchronous import Outcome, RunningConversation


class AesmdInLoop:
    """Calls of aesmd in the running loop, with a separate epoll; uvloop's epoll takes 7 µs more per call."""

    max_concurrent_calls: Final = 2
    """aesmd makes one quote at a time. A second request waits in aesmd's socket, so that aesmd is never idle."""

    def __init__(self, client: SocketClient, conversation_for: Callable[[Need], Conversation[Any]]) -> None:
        self._client = client
        self._conversation_for = conversation_for
        self._epoll = select.epoll()
        self._receivers: dict[int, Callable[[], None]] = {}  # by descriptor
        self._running: set[RunningConversation] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._take_turn)

    def start(self, need: Need, done: Callable[[Outcome], None]) -> None:
        """Start a call; `done` gets the outcome after `start` has returned, even if the call ends at once."""
        running = RunningConversation(
            self._client,
            self._conversation_for(need),
            functools.partial(self._end, done),
            watch=self._watch,
            unwatch=self._unwatch,
            whole=True,
        )
        self._running.add(running)
        running.start()

    def close(self) -> None:
        """End all calls, without calling `done` for them."""
        for running in self._running:
            running.stop()
        self._running.clear()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _end(self, done: Callable[[Outcome], None], running: RunningConversation, outcome: Outcome) -> None:
        self._running.discard(running)
        done(outcome)

    def _watch(self, descriptor: int, receive: Callable[[], None]) -> None:
        self._receivers[descriptor] = receive
        self._epoll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> None:
        self._receivers.pop(descriptor, None)  # closing the descriptor removes it from the epoll

    def _take_turn(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            if (receive := self._receivers.get(descriptor)) is not None:
                receive()
