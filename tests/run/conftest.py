import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.namespaces.modes import Mode

NOBODY = 65534
AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
READS_ALL = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
"""Lets the unprivileged user run this interpreter, which may be in root's home; the right ends in the namespace."""


class Runner:
    """Starts `confcom run` with a home and a folder for private directories of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.home, self.private = folder / "home", folder / "p"
        for path in (self.home, self.private):
            path.mkdir()
        self.started = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "SUDO_"))}
        self.environ = kept | {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.private),
            "TMPDIR": str(self.private),
        }
        self.environ.pop("XDG_STATE_HOME", None)
        self.prefix = ()

    def as_user(self):
        """Be an ordinary user, if this is root."""
        if os.geteuid() == 0:
            self.folder.chmod(0o755)
            for path in (self.home, self.private):
                os.chown(path, NOBODY, NOBODY)
            self.prefix = (*AS_NOBODY, *READS_ALL)
        return self

    def start(self, *words, prefix=(), environ=(), **options):
        process = subprocess.Popen(
            [*self.prefix, *prefix, sys.executable, "-P", "-m", "confcom", "run", *map(str, words)],
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
            env=self.environ | dict(environ),
            cwd=self.home,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words, **options):
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def report(self):
        return json.loads((self.home / "report.json").read_text())

    def traces(self):
        """Private directories, and processes that have this home in their environment."""
        found = [path.name for path in self.private.iterdir()]
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and str(self.home).encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text())
        return found


@pytest.fixture
def runner(short_dir):
    made = Runner(short_dir)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(params=[Mode.USER_NAMESPACE, Mode.ROOT], ids=str)
def mode(request, runner):
    """A mode with mounts: for an ordinary user, and for root, who was called by sudo if this test is root."""
    if request.param is Mode.ROOT:
        if os.geteuid() != 0:
            pytest.skip("mode root left out on this machine: the tests do not run as root")
    else:
        runner.as_user()
        code, _, err = runner.run("--", "true")
        if code:
            pytest.skip(f"mode user-namespace left out on this machine: {err}")
    return request.param
