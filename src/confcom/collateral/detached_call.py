"""Calls in threads that never delay the end of the process, as those of concurrent.futures do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from confcom.collateral.fetch_errors import FetchError

_P = ParamSpec("_P")
_T = TypeVar("_T")


def call_detached(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
    """Call a function in a daemon thread. Cancelling the future has no effect."""
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()

    def call() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 # the future has it
            future.set_exception(error)

    try:
        Thread(target=call, name="confcom-collateral", daemon=True).start()
    except RuntimeError as error:
        future.set_exception(
            FetchError("no thread can be started", why=str(error), remedy="raise the limit of threads")
        )
    return future


def run_apart(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in an event loop of its own, which no look-up of a host's name keeps from closing."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_DetachedExecutor())
        return runner.run(coroutine)


class _DetachedExecutor(ThreadPoolExecutor):
    """For look-ups of host names, on which the C library's resolver sets no limit of time that we know."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        return call_detached(fn, *args, **kwargs)
