"""Blocking calls in threads, since the event loop must not make them itself."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_worker_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run a call in a thread of its own, and return a future of the running loop with its result.

    A cancelled future does not stop the call. Unlike those of `asyncio.to_thread`, a thread whose call hangs does not
    keep the process from exiting.
    """
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

    threading.Thread(target=run, name="worker", daemon=True).start()
    return future
