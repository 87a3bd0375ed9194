"""Blocking calls, one at a time, beside an event loop that must not wait for them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class SerialWorker:
    """Runs calls one after another in one thread, which never keeps the process from ending.

    concurrent.futures joins its threads when the interpreter ends, so that one call that hangs would keep the whole
    daemon from stopping; this does not. Callers bound how many calls wait.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call; the future belongs to the running loop and is done when the call is, even if cancelled before.

        The call itself cannot be cancelled: a cancelled future only throws its result away.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 # it is handed over, whatever it is
                _hand_over(loop, future, future.set_exception, error)
            else:
                _hand_over(loop, future, future.set_result, result)

        self._calls.put(run)
        return future

    def close(self) -> None:
        """Take no more calls; what is running is left to end, or not, by itself."""
        self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()


def _hand_over(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], set_outcome: Callable[[Any], None], outcome: object
) -> None:
    def deliver() -> None:
        if not future.done():
            set_outcome(outcome)

    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver)
