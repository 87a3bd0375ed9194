"""Supervision of a daemon: on a signal, an orderly stop with a deadline; on failure, an exit code and a message."""

import asyncio
import contextlib
import importlib
import logging
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TextIO, TypeVar

from prometheus_client import CollectorRegistry

from confcom.daemon.common_metrics import daemon_registry
from confcom.daemon.logs import LogStream, configure_logging
from confcom.daemon.settings import DaemonSettings
from confcom.daemon.stall_watchdog import watched_loop
from confcom.errors import ConfcomError, ExitCode, explain

_logger = logging.getLogger(__name__)

STOP_DEADLINE_SECONDS = 20.0
"""Seconds from first signal to exit. A kubelet kills a Pod after 30 s (terminationGracePeriodSeconds)."""
LIBRARY_SECONDS = 1.0
"""Timeout for tasks that libraries have left running when the daemon is done; gRPC's need a few turns of
the event loop (grpcio 1.85, seen)."""

S = TypeVar("S", bound=DaemonSettings)
Main = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def run_daemon(main: Main, *, stop_deadline: float = STOP_DEADLINE_SECONDS, use_uvloop: bool = False) -> ExitCode:
    """Run `main(stop)`. SIGTERM, SIGINT or SIGHUP sets `stop`; `main` then has `stop_deadline` seconds to end.

    `main` is cancelled at the deadline, or by a SIGINT after the first signal. Another SIGTERM or SIGHUP does
    not cancel `main`: containerd repeats SIGTERM after its own restart, and if a terminal closes, its shell
    and the kernel send one SIGHUP each. If SIGHUP is ignored from the start (nohup), it stays ignored.

    `main` cleans up when it is cancelled. Tasks that libraries leave running get LIBRARY_SECONDS to end; then
    they are cancelled, and their names are logged. If the stop had to be forced, FAILED is returned.
    """
    factory = importlib.import_module("uvloop").new_event_loop if use_uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_supervise(main, stop_deadline))


async def run_until_stopped(stop: asyncio.Event, *services: Coroutine[Any, Any, None]) -> None:
    """Run services until `stop` is set. If one fails or returns early, all end, and an error is raised."""

    async def serve(service: Coroutine[Any, Any, None]) -> None:
        await service
        if not stop.is_set():
            name = getattr(service, "__qualname__", "a service")
            raise ConfcomError(
                f"{name} ended unexpectedly",
                error_code="service-ended",
                remedy="report this bug: the service should run until it is stopped",
            )

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(serve(service)) for service in services]
            await stop.wait()
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from failures
    finally:
        for service in services:  # a task that is cancelled before its first step never awaits its service
            service.close()


def first_failure(failure: BaseException) -> BaseException:
    """Return the first ConfcomError in an exception group, else its first exception."""
    if not isinstance(failure, BaseExceptionGroup):
        return failure
    leaves = [first_failure(part) for part in failure.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, ConfcomError)), leaves[0])


def exit_status(parse: Callable[[], S], body: Callable[[S, CollectorRegistry], int], *, stderr: TextIO) -> int:
    """Parse a daemon's settings, start its log and its metrics, run `body`, and return the exit code.

    A ConfcomError is explained on stderr; any other exception is a bug and is written with its traceback. While
    `body` runs, sys.stderr is the log's stream, so that no write to sys.stderr blocks.
    """
    stream = LogStream(stderr)
    try:
        with contextlib.redirect_stderr(stream):
            settings = parse()
            configure_logging(level=settings.log_level, stream=stream)
            return body(settings, daemon_registry(stream))
    except ConfcomError as error:
        stream.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001 # the interpreter's own traceback could block on stderr
        stream.write(traceback.format_exc())
        return ExitCode.FAILED
    finally:
        stream.finish()


async def _supervise(main: Main, stop_deadline: float) -> ExitCode:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = loop.create_task(main(stop), name="daemon")
    forced = False

    def force(reason: str) -> None:
        nonlocal forced
        if not task.done():
            forced = True
            _logger.error("the orderly stop was aborted", extra={"reason": reason})
            task.cancel()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            if number is signal.SIGINT:
                force(f"a further signal ({number.name})")
            return
        _logger.info("stopping", extra={"signal": number.name})
        stop.set()
        loop.call_later(stop_deadline, force, f"not done after {stop_deadline:g} s")

    try:
        with _signals_handled(loop, on_signal), watched_loop(loop):
            await task
    except asyncio.CancelledError:
        if not forced:
            raise
        return ExitCode.FAILED
    except BaseExceptionGroup as failures:
        raise first_failure(failures) from failures
    finally:
        await _wait_for_library_tasks()
    return ExitCode.OK


async def _wait_for_library_tasks() -> None:
    """Wait for all other tasks to end, since gRPC prints a traceback for each call whose task is cancelled.

    A gRPC server counts as stopped as soon as no call is open, which can be before the tasks of its calls have ended.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if not others:
        return
    _, remaining = await asyncio.wait(others, timeout=LIBRARY_SECONDS)
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
