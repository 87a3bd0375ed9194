"""A worker thread for blocking calls, which the event loop must not make itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """A thread that runs blocking calls one after the other and never keeps the process from exiting.

    concurrent.futures joins its threads when the interpreter exits, so one call that hangs would keep the daemon from
    stopping; this class does not. Callers limit how many calls wait.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._closed = False

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call, and return a future of the running loop with the call's result.

        The call itself cannot be cancelled: if the future is cancelled, the call still runs and its result is
        discarded.
        """
        if self._closed:
            raise RuntimeError("the worker is closed, so that no thread would run the call")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(outcome: Callable[[], None]) -> None:
            if not future.done():
                outcome()

        def run() -> None:
            try:
                outcome = functools.partial(future.set_result, call())
            except BaseException as error:  # noqa: BLE001 # the future passes on any exception
                outcome = functools.partial(future.set_exception, error)
            # A closed loop raises RuntimeError; nothing waits for the result any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, outcome)

        self._calls.put(run)
        if not self._thread.is_alive():
            self._thread.start()
        return future

    def close(self) -> None:
        """Stop the thread after the queued calls; a running call is not waited for. Nothing can be submitted then."""
        self._closed = True
        self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
