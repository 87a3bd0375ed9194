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
SYSTEM_PYTHON = "/usr/bin/python3"


def python_for_others():
    """Path and environment of a Python that every user can execute, or None. Only root may reach the tests' own."""
    path = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & 1 for parent in (path, *path.parents)):
        return sys.executable, {}
    version = "import sys; print(sys.version_info[:2])"
    with contextlib.suppress(OSError):
        done = subprocess.run([SYSTEM_PYTHON, "-c", version], capture_output=True, text=True, check=False)
        if done.stdout.strip() == str(sys.version_info[:2]):
            return SYSTEM_PYTHON, {"PYTHONPATH": os.pathsep.join(one for one in sys.path if "/root" not in one)}
    return None


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
        self.prefix, self.python = (), sys.executable

    def as_user(self):
        """Be an ordinary user, if this is root."""
        if os.geteuid() == 0:
            if (found := python_for_others()) is None:
                pytest.skip("an ordinary user cannot execute this Python")
            self.python, variables = found
            self.environ |= variables
            self.folder.chmod(0o755)
            for path in (self.home, self.private):
                os.chown(path, NOBODY, NOBODY)
            self.prefix = AS_NOBODY
        return self

    def start(self, *words, prefix=(), environ=(), **options):
        process = subprocess.Popen(
            [*self.prefix, *prefix, self.python, "-P", "-m", "confcom", "run", *map(str, words)],
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
        with process:  # which closes the pipes, and waits
            process.kill()


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
