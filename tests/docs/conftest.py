"""Fixtures for a reader's machine: terminals with `confcom` on PATH, in a folder with a short path."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "XDG_"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return inherited | {"PATH": search, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def install(short_dir, environment):
    """Installs scripts in a folder that comes first on PATH, before the machine's programs."""

    def put(**programs):
        (short_dir / "bin").mkdir()
        for name, script in programs.items():
            (short_dir / "bin" / name).write_text(script)
            (short_dir / "bin" / name).chmod(0o755)
        environment["PATH"] = f"{short_dir / 'bin'}{os.pathsep}{environment['PATH']}"

    return put


@pytest.fixture
def start(environment, short_dir):
    """Starts a command in a new session, and interrupts the command at the test's end."""
    started = []

    def run(line):
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {line}"],
            cwd=short_dir,
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
def typed(environment, short_dir):
    def run(line, **variables):
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=short_dir,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
