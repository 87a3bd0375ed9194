"""Running a daemon: signals become an orderly stop with a deadline, failures an exit code and one clear message."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TextIO

from confcom.daemon.log_stream import LogStream
from confcom.errors import ConfcomError, ExitCode, explain

_logger = logging.getLogger(__name__)

STOP_DEADLINE_SECONDS = 20.0
"""From the first signal to the end; below the 30 s after which a kubelet kills (terminationGracePeriodSeconds)."""
LIBRARY_SECONDS = 1.0
"""For tasks that libraries have left when the daemon is done; gRPC's take a few steps (grpcio 1.85, seen)."""

Main = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def run_daemon(
    main: Main,
    *,
    stop_deadline: float = STOP_DEADLINE_SECONDS,
    library_seconds: float = LIBRARY_SECONDS,
    use_uvloop: bool = False,
) -> ExitCode:
    """Run `main(stop)` until it returns; SIGTERM, SIGINT and SIGHUP set `stop`, then it has `stop_deadline` seconds.

    A second SIGTERM or SIGINT, or the deadline, cancels it. A second SIGHUP does not: a terminal that goes away sends
    it twice, by its shell and by the kernel. Where SIGHUP is ignored from the start (nohup), it stays so.

    Args:
        main: the daemon; it returns soon after `stop` is set, and leaves nothing behind when it is cancelled.
        stop_deadline: seconds for the orderly stop.
        library_seconds: for tasks that libraries have left then; those that remain are cancelled and named in the log.
        use_uvloop: uvloop's event loop instead of asyncio's own.

    Returns:
        OK after an orderly stop, FAILED when the stop had to be forced.

    Raises:
        ConfcomError: what ended `main`; of several failures at once, the first of our own kind.
    """
    factory = importlib.import_module("uvloop").new_event_loop if use_uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_supervise(main, stop_deadline, library_seconds))


async def run_until_stopped(stop: asyncio.Event, *services: Coroutine[Any, Any, None]) -> None:
    """Run services side by side until `stop` is set; the first that fails, or ends by itself, stops all.

    Raises:
        ConfcomError: a service failed with it, or ended although nobody asked it to.
    """

    async def serve(service: Coroutine[Any, Any, None]) -> None:
        await service
        if not stop.is_set():
            name = getattr(service, "__qualname__", "a service")
            raise ConfcomError(f"{name} ended by itself", remedy="report this: it should run until it is stopped")

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(serve(service)) for service in services]
            await stop.wait()
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from failures


def first_failure(failure: BaseException) -> BaseException:
    """Of a group of failures, the first of our own kind, else simply the first."""
    if not isinstance(failure, BaseExceptionGroup):
        return failure
    leaves = [first_failure(part) for part in failure.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, ConfcomError)), leaves[0])


def exit_status(body: Callable[[LogStream], int], *, stderr: TextIO) -> int:
    """Run a daemon's whole main and turn what ends it into an exit code, with the reason on stderr.

    Our own errors are explained; anything else is a bug and keeps its traceback. While `body` runs, sys.stderr is the
    stream that it is given, so that nobody's line waits for the reader.

    Args:
        body: the daemon's main; logs go to the stream.
        stderr: what the stream is written to.
    """
    stream = LogStream(stderr)
    try:
        with contextlib.redirect_stderr(stream):
            return body(stream)
    except ConfcomError as error:
        stream.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001 # the interpreter's own report would wait for the reader
        stream.write(traceback.format_exc())
        return ExitCode.FAILED
    finally:
        stream.finish()


async def _supervise(main: Main, stop_deadline: float, library_seconds: float) -> ExitCode:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = loop.create_task(main(stop), name="daemon")
    forced = False

    def force(reason: str) -> None:
        nonlocal forced
        if not task.done():
            forced = True
            _logger.error("the orderly stop was cut short", extra={"reason": reason})
            task.cancel()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            if number is not signal.SIGHUP:
                force(f"a second signal ({number.name})")
            return
        _logger.info("stopping", extra={"signal": number.name})
        stop.set()
        loop.call_later(stop_deadline, force, f"not done after {stop_deadline:g} s")

    try:
        with _signals_handled(loop, on_signal):
            await task
    except asyncio.CancelledError:
        if not forced:
            raise
        return ExitCode.FAILED
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from failures
    finally:
        await _wait_for_library_tasks(library_seconds)
    return ExitCode.OK


async def _wait_for_library_tasks(seconds: float) -> None:
    """Let every other task end by itself: gRPC prints a traceback for a call's that is cancelled, not one log line.

    Its server counts as stopped as soon as no call is open, which can be before the tasks of its calls have ended.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if not others:
        return
    _, remaining = await asyncio.wait(others, timeout=seconds)
    if remaining:
        names = sorted(task.get_name() for task in remaining)
        _logger.warning("tasks that did not end are cancelled", extra={"tasks": names})


@contextlib.contextmanager
def _signals_handled(loop: asyncio.AbstractEventLoop, on_signal: Callable[[signal.Signals], None]) -> Iterator[None]:
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
