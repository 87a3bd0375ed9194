"""Blocking calls beside an event loop that must not wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerPool:
    """Runs calls in a bounded number of threads, which never keep the process from ending.

    concurrent.futures joins its threads when the interpreter ends, so that one call that hangs would keep the whole
    daemon from stopping; this does not. Callers bound how many calls wait. Everything but the calls themselves
    happens in the event loop's thread.

    Args:
        name: the threads' name.
        size: how many calls run at once; threads are started as they are needed.
    """

    def __init__(self, name: str, size: int = 1) -> None:
        self._name = name
        self._size = size
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._unfinished = 0

    def grow_to(self, size: int) -> None:
        """From now on so many calls run at once; a pool never shrinks."""
        self._size = max(self._size, size)

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
                self._hand_over(loop, future, future.set_exception, error)
            else:
                self._hand_over(loop, future, future.set_result, result)

        self._unfinished += 1
        self._calls.put(run)
        if self._threads < min(self._size, self._unfinished):
            self._threads += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """Take no more calls; what is running is left to end, or not, by itself."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()

    def _hand_over(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        set_outcome: Callable[[Any], None],
        outcome: object,
    ) -> None:
        def deliver() -> None:
            self._unfinished -= 1
            if not future.done():
                set_outcome(outcome)

        # A closed loop refuses; nobody waits for the result any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver)
