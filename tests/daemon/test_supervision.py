import asyncio
import contextlib
import gc
import io
import os
import signal
import sys

import pytest

from confcom.daemon import supervision
from confcom.daemon.settings import DaemonSettings
from confcom.daemon.supervision import exit_status, first_failure, run_daemon, run_until_stopped
from confcom.errors import ConfcomError, ExitCode, SettingsError, UnavailableError, explain
from testkit.expected_errors import raises

SETTINGS = SettingsError("what", why="why", remedy="do")


@pytest.mark.parametrize(
    ("number", "use_uvloop"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGHUP, True)],
)
def test_a_signal_is_an_orderly_stop(number, use_uvloop):
    seen = []

    async def main(stop):
        seen.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        os.kill(os.getpid(), number)
        await stop.wait()
        seen.append("cleaned up")

    before = signal.getsignal(number)
    assert run_daemon(main, use_uvloop=use_uvloop) is ExitCode.OK
    assert seen == ["uvloop" if use_uvloop else "asyncio", "cleaned up"]
    assert signal.getsignal(number) is before or number is signal.SIGINT


@pytest.mark.parametrize("second_signal", [False, True])
def test_a_second_signal_or_the_deadline_cuts_the_stop_short(second_signal):
    async def main(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        if second_signal:
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    assert run_daemon(main, stop_deadline=1000 if second_signal else 0.01) is ExitCode.FAILED


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_repeated_signal_cuts_nothing_short(number):
    """A container runtime that restarts sends SIGTERM again to containers that are stopping."""

    async def main(stop):
        for _ in range(3):
            os.kill(os.getpid(), number)
            for _ in range(10):
                await asyncio.sleep(0)
        assert stop.is_set()

    assert run_daemon(main) is ExitCode.OK


@pytest.mark.parametrize("ignored", [False, True])
def test_nohup_is_respected(ignored):
    seen = []

    async def main(stop):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            for _ in range(10):
                await asyncio.sleep(0)
        seen.append((stop.is_set(), signal.getsignal(signal.SIGHUP) is signal.SIG_IGN))

    before = signal.getsignal(signal.SIGHUP)
    try:
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert run_daemon(main) is ExitCode.OK
        assert seen == [(not ignored, ignored)]
        assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) == ignored
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_library_still_does_comes_to_its_end(fails, caplog, monkeypatch):
    seen = []

    async def library():
        for _ in range(100):
            await asyncio.sleep(0)
        seen.append("done")

    async def main(stop):
        seen.append(asyncio.create_task(library()))
        if fails:
            raise UnavailableError("no", why="no", remedy="no")

    with pytest.raises(UnavailableError) if fails else contextlib.nullcontext():
        assert run_daemon(main) is ExitCode.OK
    assert seen[1:] == ["done"]

    async def endless(stop):
        seen.append(asyncio.create_task(asyncio.Event().wait(), name="endless"))

    monkeypatch.setattr(supervision, "LIBRARY_SECONDS", 0.01)
    assert run_daemon(endless) is ExitCode.OK
    assert seen[-1].cancelled()
    assert [record.tasks for record in caplog.records] == [["endless"]]


def test_a_failure_ends_the_daemon_with_our_own_error():
    async def main(stop):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(ValueError("noise")))
            group.create_task(fail(SettingsError("wrong", error_code="ours")))

    with raises("ours", SettingsError):
        run_daemon(main)


async def fail(error):
    raise error


async def test_the_end_of_one_service_stops_all():
    ended = []

    async def service(stop=None):
        if stop:
            stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    stop = asyncio.Event()
    await run_until_stopped(stop, service(), service(stop))
    assert ended == [1, 1]
    with pytest.raises(UnavailableError):
        await run_until_stopped(asyncio.Event(), service(), fail(UnavailableError("gone")))
    assert ended == [1, 1, 1]
    with raises("service-ended", ConfcomError):
        await run_until_stopped(asyncio.Event(), service(), asyncio.sleep(0))


@pytest.mark.filterwarnings("error")
async def test_services_of_a_stopped_daemon_do_not_start():
    stop, started = asyncio.Event(), []
    stop.set()

    async def service():
        started.append(1)

    await run_until_stopped(stop, service(), service())
    gc.collect()  # an unawaited coroutine warns when it is deleted
    assert started == []


def test_first_failure():
    ours = UnavailableError("x")
    assert first_failure(ours) is ours
    assert first_failure(BaseExceptionGroup("a", [ValueError(), ExceptionGroup("b", [OSError(), ours])])) is ours
    assert isinstance(first_failure(ExceptionGroup("a", [OSError(), ValueError()])), OSError)


@pytest.mark.parametrize(
    ("failure", "code", "last"),
    [
        (None, 7, ""),
        (SETTINGS, ExitCode.USAGE, explain(SETTINGS)),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
        (ZeroDivisionError("a bug"), ExitCode.FAILED, "\nZeroDivisionError: a bug\n"),
    ],
)
@pytest.mark.usefixtures("root_logger")
def test_exit_status(failure, code, last):
    stderr = io.StringIO()

    def body(settings, registry):
        sys.stderr.write("a library's line\n")
        if failure is not None:
            raise failure
        return 7

    assert exit_status(DaemonSettings, body, stderr=stderr) == code
    library, text = stderr.getvalue().split("\n", 1)
    assert library == "a library's line"
    assert text.endswith(last) if isinstance(failure, ZeroDivisionError) else text == last
