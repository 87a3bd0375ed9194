"""A program that the terminal's Ctrl-C does not reach, and that ends when it is asked to."""

import os
import subprocess
import sys
import threading

import pytest

from confcom.addon.detached import StopRequest, beside
from confcom.addon.programs import run_program, within

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
        running = beside(
            lambda: run_program([sys.executable, "-c", OBEDIENT, str(fifo)], stdin=b"values", stop=stop, **more)
        )
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


def test_a_shorter_limit_wins():
    seen = []

    def run(arguments, /, *, stdin=None, timeout=60.0, stop=None):
        seen.append(timeout)
        return subprocess.CompletedProcess(arguments, 0, b"", b"")

    within(run, 3.0)(["helm"], timeout=360.0)
    within(run, 3.0)(["helm"], timeout=1.0)
    assert seen == [3.0, 1.0]


def test_what_fails_beside_fails_where_it_is_asked_for():
    def fail():
        raise KeyError(threading.current_thread().daemon)

    with pytest.raises(KeyError, match="True"):
        beside(fail).result(30)
