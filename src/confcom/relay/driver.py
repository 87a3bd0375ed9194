"""Calls of aesmd for clients in the helper's event loop, so that relaying a quote needs no further thread."""

import functools
from collections.abc import Callable
from typing import Any, Final

from confcom.aesm.conversation import Conversation
from confcom.aesm.request_checks import Need
from confcom.client.address import SocketClient
from confcom.client.asynchronous import Outcome, RunningConversation


class AesmdInLoop:
    max_concurrent_calls: Final = 2
    """aesmd makes one quote at a time. A second request waits in aesmd's socket, so that aesmd is never idle."""

    def __init__(self, client: SocketClient, conversation_for: Callable[[Need], Conversation[Any]]) -> None:
        self._client = client
        self._conversation_for = conversation_for
        self._running: set[RunningConversation] = set()

    def start(self, need: Need, done: Callable[[Outcome], None]) -> None:
        """Start a call; `done` gets the outcome after `start` has returned, even if the call ends at once."""
        ended = functools.partial(self._end, done)
        running = RunningConversation(self._client, self._conversation_for(need), ended, whole=True)
        self._running.add(running)
        running.start()

    def close(self) -> None:
        """End all calls, without calling `done` for them."""
        for running in self._running:
            running.stop()
        self._running.clear()

    def _end(self, done: Callable[[Outcome], None], running: RunningConversation, outcome: Outcome) -> None:
        self._running.discard(running)
        done(outcome)
