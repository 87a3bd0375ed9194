"""Blocking calls in threads, since the event loop must not make them itself."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_worker_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run a call in a thread of its own, and return a future of the running loop with its result.

    A cancelled future does not stop the call. One that hangs keeps no process from exiting, unlike `to_thread`'s.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 # the future passes on any exception
            future.set_exception(error)

    threading.Thread(target=run, name="worker", daemon=True).start()
    return asyncio.wrap_future(future)
