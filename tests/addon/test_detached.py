"""A program that the terminal's Ctrl-C does not reach, and that ends when it is asked to."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from confcom.addon.cluster.bounded_process import OutputLimitError
from confcom.addon.cluster.detached_process import StopRequest, run_in_background
from confcom.addon.cluster.programs import run_program, within

OBEDIENT = """
import os, signal, sys
def end(*_):
    print(os.getsid(0), sys.stdin.read())
    sys.exit(3)
signal.signal(signal.SIGINT, end)
open(sys.argv[1], "w").close()  # a FIFO: the test waits until this is reached
signal.pause()
"""


@pytest.fixture
def obedient(tmp_path):
    """Runs the program, and says when it waits."""
    fifo = tmp_path / "reached"
    os.mkfifo(fifo)

    def start(stop, **more):
        running = Future()
        command = [sys.executable, "-c", OBEDIENT, str(fifo)]
        run_in_background(lambda: run_program(command, stdin=b"values", stop=stop, **more), running)
        fifo.read_bytes()
        return running

    return start


def test_it_gets_a_sigint_when_it_is_asked_to_end_and_has_a_session_of_its_own(obedient):
    stop = StopRequest()
    running = obedient(stop)
    stop.ask()
    done = running.result(30)
    assert done.returncode == 3
    session, given = done.stdout.decode().split()
    assert int(session) != os.getsid(0)
    assert given == "values"


def test_who_asks_before_it_runs_is_heard_too():
    stop, heard = StopRequest(), []
    stop.ask()
    stop.when_asked(lambda: heard.append("now"))
    stop.ask()
    assert heard == ["now"]


def test_it_is_killed_at_its_time_limit():
    with pytest.raises(subprocess.TimeoutExpired):
        run_program([sys.executable, "-c", "import signal; signal.pause()"], stop=StopRequest(), timeout=0.2)


def test_what_it_printed_before_its_time_limit_is_read_with_a_bound():
    program = [
        sys.executable,
        "-c",
        "import signal, sys; print('x' * 5000, file=sys.stderr, flush=True); signal.pause()",
    ]
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_program(program, stop=StopRequest(), timeout=2.0, most=1000)
    assert len(caught.value.stderr) <= 1000


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_it_prints_is_read_with_a_bound(stream):
    program = [sys.executable, "-c", f"import sys; sys.{stream}.write('x' * 1001)"]
    done = run_program(program, stop=StopRequest(), most=1001)
    assert len(done.stdout + done.stderr) == 1001
    with pytest.raises(OutputLimitError) as caught:
        run_program(program, stop=StopRequest(), most=1000)
    assert (caught.value.stream, caught.value.limit, caught.value.killed) == (stream, 1000, False)


def test_a_shorter_limit_wins():
    seen = []

    def run(arguments, /, *, timeout, **more):
        del more
        seen.append(timeout)
        return subprocess.CompletedProcess(arguments, 0, b"", b"")

    within(run, 3.0)(["helm"], timeout=360.0)
    within(run, 3.0)(["helm"], timeout=1.0)
    assert seen == [3.0, 1.0]


def test_what_fails_beside_fails_where_it_is_asked_for():
    def fail():
        raise KeyError(threading.current_thread().daemon)

    done = Future()
    run_in_background(fail, done)
    with pytest.raises(KeyError, match="True"):
        done.result(30)
