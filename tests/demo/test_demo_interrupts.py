"""Signals end the demo at once, except while a process is being started."""

import os
import signal
import sys
from typing import ClassVar

import pytest

from confcom.playground.demo.commands import Commands
from confcom.playground.demo.interrupts import SIGNALS, Interrupts
from confcom.playground.demo.processes import ProcessGroup


@pytest.fixture
def interrupts(signal_handlers):
    made = Interrupts()
    made.install()
    return made


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_becomes_the_exit_code_that_shells_use(interrupts, number):
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number


def test_held_it_waits_until_the_outermost_block_ends(interrupts):
    reached = []

    def hold_twice():
        with interrupts.held():
            with interrupts.held():
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("inner")
            reached.append("outer")

    with pytest.raises(SystemExit) as ended:
        hold_twice()
    assert reached == ["inner", "outer"]
    assert ended.value.code == 130


def test_a_signal_that_was_held_is_not_repeated(interrupts):
    with pytest.raises(SystemExit), interrupts.held():
        os.kill(os.getpid(), signal.SIGTERM)
    with interrupts.held():
        pass


class SignalsWhileStarting(Commands):
    """Starts processes, and is interrupted before anybody could have noted them."""

    started: ClassVar = []

    def popen(self, argv, stdout, stderr):
        process = super().popen(argv, stdout, stderr)
        self.started.append(process)
        os.kill(os.getpid(), signal.SIGINT)
        return process


@pytest.fixture
def commands(interrupts):
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    return SignalsWhileStarting({}, replacements={"sleep": sleeper}, interrupts=interrupts)


def test_a_command_interrupted_while_it_starts_is_ended(commands):
    with pytest.raises(SystemExit):
        commands.run("sleep")
    assert commands.started.pop().returncode == -signal.SIGKILL


def test_a_daemon_interrupted_while_it_starts_is_ended(commands, tmp_path):
    with pytest.raises(SystemExit), ProcessGroup(tmp_path / "demo", commands, owns_folder=True) as processes:
        processes.start("sleeper", "sleep")
    assert commands.started.pop().returncode == -signal.SIGTERM
    assert not (tmp_path / "demo").exists()


def test_only_the_first_signal_counts(interrupts):
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_was_ignored_stays_ignored(signal_handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Interrupts().install()
    os.kill(os.getpid(), signal.SIGHUP)
