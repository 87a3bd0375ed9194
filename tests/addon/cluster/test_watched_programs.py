"""A program that the terminal's Ctrl-C does not reach, and that gets a SIGINT if this process is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.addon.cluster import processes
from confcom.addon.cluster.helm import Helm
from confcom.addon.cluster.kubectl import Cluster
from confcom.addon.cluster.processes import OutputLimitError, Watch
from confcom.addon.cluster.programs import run_program
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.apply.journal import interrupted

OBEDIENT = """
import os, signal, sys
def end(*_):
    open("ended", "w").write(f"{os.getsid(0)} {sys.stdin.read()}")
    sys.exit()
signal.signal(signal.SIGINT, end)
open("reached", "w").close()  # a FIFO: the test waits until this is reached
while True:
    signal.pause()
"""
ENDLESS = "import signal; signal.pause()"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("reached")
    return tmp_path


def run(program, **more):
    return run_program([sys.executable, "-c", program], stdin=b"values", **more)


def interrupt_when_reached():
    Path("reached").read_bytes()
    raise KeyboardInterrupt


def test_an_interruption_sends_it_a_sigint_in_its_own_session(here):
    watch = Watch(interrupt_when_reached, stoppable=True)
    with pytest.raises(KeyboardInterrupt):
        run(OBEDIENT, watch=watch)
    session, given = (here / "ended").read_text().split()
    assert int(session) != os.getsid(0)
    assert given == "values"
    assert not watch.running


def test_a_program_that_cannot_be_stopped_is_given_time(here, monkeypatch):
    monkeypatch.setattr(processes, "INTERRUPTED_SECONDS", 0.1)
    started, start = [], subprocess.Popen
    monkeypatch.setattr(
        processes.subprocess, "Popen", lambda *a, **more: started.append(start(*a, **more)) or started[0]
    )
    watch = Watch(interrupt_when_reached)
    with pytest.raises(KeyboardInterrupt):
        run(OBEDIENT, watch=watch)
    (process,) = started
    assert watch.running
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_an_interruption_while_it_is_started_ends_it_as_well(monkeypatch):
    start = subprocess.Popen

    def interrupted(*arguments, **more):
        process = start(*arguments, **more)
        os.kill(os.getpid(), signal.SIGINT)
        return process

    monkeypatch.setattr(processes.subprocess, "Popen", interrupted)
    watch = Watch(stoppable=True)
    with pytest.raises(KeyboardInterrupt):
        run(ENDLESS, watch=watch)
    assert not watch.running


@pytest.mark.parametrize("running", [True, False])
def test_whether_helm_goes_on_is_known_after_an_interruption(running):
    def run(_, /, *, watch, **more):
        del more
        watch.running = running
        raise KeyboardInterrupt

    add_on = AddOn(Cluster(), run, reporter=None, clock=None, sleep=None, now=None)
    with pytest.raises(KeyboardInterrupt):
        add_on.run_helm(Helm.uninstall, Watch())
    assert add_on.journal.helm_goes_on is running
    assert interrupted(add_on.journal, None).error_code == "interrupted-during-helm"


def test_meanwhile_something_else_is_done_until_it_has_ended(here):
    looks = []

    def look():
        looks.append(True)
        if len(looks) == 3:
            (here / "done").touch()

    watch = Watch(look)
    program = "import os, time\nwhile not os.path.exists('done'):\n    time.sleep(0.01)\nprint('well')"
    assert run(program, watch=watch).stdout == b"well\n"
    assert len(looks) >= 3
    assert not watch.running


def test_output_before_the_time_limit_is_bounded():
    program = "import signal, sys; print('x' * 5000, file=sys.stderr, flush=True); signal.pause()"
    watch = Watch()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run(program, watch=watch, timeout=2.0, most=1000)
    assert len(caught.value.stderr) <= 1000
    assert not watch.running


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_it_prints_is_read_with_a_bound(stream):
    program = f"import sys; sys.{stream}.write('x' * 1001)"
    done = run(program, watch=Watch(), most=1001)
    assert len(done.stdout + done.stderr) == 1001
    with pytest.raises(OutputLimitError) as caught:
        run(program, watch=Watch(), most=1000)
    assert (caught.value.stream, caught.value.limit, caught.value.killed) == (stream, 1000, False)
