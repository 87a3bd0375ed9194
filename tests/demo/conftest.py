"""A demo in this process whose commands can be replaced one by one, and demos as processes."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from confcom.playground.api.client import NodeClient
from confcom.playground.demo.commands import Commands
from confcom.playground.demo.context import DemoContext
from confcom.playground.demo.interrupts import SIGNALS
from confcom.playground.demo.processes import ProcessGroup
from confcom.playground.demo.sequence import run as run_demo

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "COV_"))}


@pytest.fixture
def play(tmp_path):
    """Runs the demo; `instead` replaces commands, `after` a step something is done to it."""

    def run(*, mode="auto", instead=None, after=(0, None), patience=20.0):
        folder = Path(tempfile.mkdtemp(prefix="cst-", dir="/tmp"))
        folder.chmod(0o755)
        commands = Commands(ENVIRONMENT, instead or {})
        with (
            ProcessGroup(folder, commands, owns_folder=True, ready_seconds=patience) as processes,
            NodeClient(folder) as node,
        ):
            context = DemoContext(processes, node, mode, os.urandom, job_seconds=patience)
            number, act = after
            report = run_demo(
                context,
                begin=lambda _number, _title: None,
                end=lambda step: act(context) if step.ok and step.number == number else None,
            )
        assert not folder.exists()
        return report

    return run


@pytest.fixture
def signal_handlers():
    """Whatever handles signals is put back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def script(tmp_path):
    """Writes a Python program and gives the argv that starts it."""

    def write(text, name="program"):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return (sys.executable, str(path))

    return write


@pytest.fixture
def demo_environment():
    return ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}


@pytest.fixture
def demo_process(demo_environment):
    """Starts `confcom demo` as a process group of its own; whatever is left of it afterwards is ended by pid."""
    started = []

    def start(*arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "confcom", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **({"env": demo_environment} | options),
            start_new_session=True,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def short_folder():
    folder = Path(tempfile.mkdtemp(prefix="cst-", dir="/tmp"))
    folder.rmdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


SLOW_DELETION = """
import sys, time
if "delete" in sys.orig_argv:
    time.sleep(60)
"""


@pytest.fixture
def demo_in_short_folder(demo_process, demo_environment, short_folder, tmp_path, tmp_path_factory):
    """A demo whose temporary files, if it leaves any, are in tmp_path.

    Its last step does not end by itself, so that a signal reaches it in time however busy the machine is.
    """
    slowing = tmp_path_factory.mktemp("slowing")
    (slowing / "sitecustomize.py").write_text(SLOW_DELETION)
    changes = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(slowing)}
    return demo_process("--dir", str(short_folder), env=demo_environment | changes)


def processes_of(folder):
    """Pids whose command line or environment names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command + environment:
                found.append((int(entry.name), command))
    return found


@pytest.fixture
def traces_of():
    """What a demo left on the machine: its folder, its processes, its mounts."""

    def find(folder):
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]
        return {"folder": folder.exists(), "processes": processes_of(folder), "mounts": mounts}

    return find
