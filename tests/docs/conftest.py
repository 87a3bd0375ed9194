"""Fixtures for a reader's machine: a folder with a short path, and terminals with `confcom` on PATH."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

LOOK_SECONDS, LOOKS = 0.05, 1000
"""Seconds between two checks for a helper's socket, and the highest number of checks."""


@pytest.fixture
def folder():
    """A folder with a short path, because socket paths must be short."""
    place = Path(tempfile.mkdtemp(prefix="cdo-", dir="/tmp"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def environment(tmp_path):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "XDG_"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return inherited | {"PATH": search, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def install(folder, environment):
    """Installs scripts in a folder that comes first on PATH, before the machine's programs."""

    def put(**programs):
        (folder / "bin").mkdir()
        for name, script in programs.items():
            (folder / "bin" / name).write_text(script)
            (folder / "bin" / name).chmod(0o755)
        environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"

    return put


@pytest.fixture
def start(environment, folder):
    """Starts a command in a new session, and interrupts the command at the test's end."""
    started = []

    def run(line):
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {line}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in reversed(started):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.fixture
def typed(environment, folder):
    def run(line, **variables):
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def wait_for_socket(process, path):
    for _ in range(LOOKS):
        if path.is_socket():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(LOOK_SECONDS)
    pytest.fail(f"{path} is not there")
