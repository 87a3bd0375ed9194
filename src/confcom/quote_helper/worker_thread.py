"""Blocking calls in threads, since the event loop itself must not make blocking calls."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_worker_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run a call in its own thread; return a future of the running loop that gets the call's result.

    Cancelling the future does not stop the call. Unlike in `to_thread`, a hanging call lets the process exit.
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
