"""A thread pool for blocking calls, which the event loop must not make itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WorkerPool:
    """A bounded number of threads that run blocking calls and never keep the process from exiting.

    concurrent.futures joins its threads when the interpreter exits, so one call that hangs would keep the daemon from
    stopping; this class does not. Callers limit how many calls wait. Everything but the calls themselves happens in the
    event loop's thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._size = 1
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._unfinished = 0
        self._closed = False

    def grow_to(self, size: int) -> None:
        """Raise the maximum number of concurrent calls to `size`; a pool never shrinks."""
        self._size = max(self._size, size)

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a call, and return a future of the running loop with the call's result.

        The call itself cannot be cancelled: if the future is cancelled, the call still runs and its result is
        discarded.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def outcome() -> Callable[[], None]:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 # the future passes on any exception
                return functools.partial(future.set_exception, error)
            return functools.partial(future.set_result, result)

        def settle(outcome: Callable[[], None]) -> None:
            if not future.done():
                outcome()

        self.start(outcome, settle)
        return future

    def start(self, call: Callable[[], T], done: Callable[[T], None]) -> None:
        """Queue a call that does not raise; `done` is called in the running loop with its result.

        A future would call back one turn of the loop later, which is a tenth of what a relayed quote costs.
        """
        if self._closed:
            raise RuntimeError("the pool is closed, so that no thread would run the call")
        loop = asyncio.get_running_loop()

        def deliver(result: T) -> None:
            self._unfinished -= 1
            done(result)

        def run() -> None:
            result = call()
            # A closed loop raises RuntimeError; nothing waits for the result any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver, result)

        self._unfinished += 1
        self._calls.put(run)
        if self._threads < min(self._size, self._unfinished):
            self._threads += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Stop the threads after the queued calls; running calls are not waited for. Nothing can be submitted then."""
        self._closed = True
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
