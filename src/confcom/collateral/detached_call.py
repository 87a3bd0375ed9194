"""Calls in threads that hardly delay the end of the process, which waits for threads of concurrent.futures."""

import asyncio
import atexit
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, Final, ParamSpec, TypeVar

from confcom.collateral.fetch_errors import FetchError

_P = ParamSpec("_P")
_T = TypeVar("_T")

END_SECONDS: Final = 0.5
"""How long the end of the process waits for a call: milliseconds after its cancellation, except while another process
locks a file, or a look-up of a host's name hangs.
If the thread were in OpenSSL when the process ends, it could use a lock that OpenSSL has freed by then (seen)."""


def call_detached(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
    """Call a function in a daemon thread. Cancelling the future has no effect."""
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()

    def call() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 # the future has it
            future.set_exception(error)

    thread = Thread(target=call, name="confcom-collateral", daemon=True)
    # Functions that are registered later run earlier: a call of `run_apart` is cancelled before it is awaited.
    atexit.register(thread.join, END_SECONDS)
    future.add_done_callback(lambda _: atexit.unregister(thread.join))
    try:
        thread.start()
    except RuntimeError as error:
        future.set_exception(
            FetchError("no thread can be started", why=str(error), remedy="raise the limit of threads")
        )
    return future


def run_apart(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in an event loop of its own, which no look-up of a host's name keeps from closing."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_DetachedExecutor())
        return runner.run(_cancelled_at_exit(coroutine))


async def _cancelled_at_exit(coroutine: Coroutine[Any, Any, _T]) -> _T:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(coroutine)

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(task.cancel)

    atexit.register(cancel)
    try:
        return await task
    finally:
        atexit.unregister(cancel)


class _DetachedExecutor(ThreadPoolExecutor):
    """For look-ups of host names, on which the C library's resolver sets no limit of time that we know."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        return call_detached(fn, *args, **kwargs)
