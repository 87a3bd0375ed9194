"""Runs `confcom` with the files, programs and streams of a test case, in this process or in a new one."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from unittest import mock

from confcom.cli.main import main

PR_CAPBSET_DROP = 24
DAC_CAPABILITIES = (1, 2)
"""The capabilities that let root ignore file modes: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
BEGIN = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in {capabilities}:
    if libc.prctl({drop}, capability, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
for descriptor in {closed}:
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Program that prepares the new process and then executes confcom. No code of ours may run between fork() and
exec(): earlier tests may have left gRPC threads, whose fork() handlers would end the child."""
SECONDS = 50
KEPT = ("PYTHONPATH", "LANG")


@dataclass(frozen=True, slots=True)
class Case:
    arguments: tuple
    stdin: bytes = b""
    closed: tuple[int, ...] = ()
    """File descriptor numbers of the standard streams that are closed."""
    programs: dict = field(default_factory=dict)
    """Scripts that stand in for programs, keyed by the program's name."""
    environ: dict = field(default_factory=dict)

    def prepare(self, place):
        """Write the files that the case needs, and return environment variables for the command."""
        programs = place / "bin"
        programs.mkdir(exist_ok=True)
        for old in programs.iterdir():
            old.unlink()
        for name, script in self.programs.items():
            (programs / name).write_bytes(script)
            (programs / name).chmod(0o755)
        (place / "stdin").write_bytes(self.stdin)
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {**kept, "PATH": str(programs), "HOME": str(place), "TERM": "xterm", **self.environ}


def execute(case, place, **streams):
    """Run a case in a new process, as a shell does. File modes hold for confcom even if root runs tests."""
    environ, capabilities = case.prepare(place), DAC_CAPABILITIES if os.geteuid() == 0 else ()
    begin = BEGIN.format(capabilities=capabilities, drop=PR_CAPBSET_DROP, closed=case.closed)
    with (place / "stdin").open("rb") as stdin:
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", begin, "-P", "-m", "confcom", *case.arguments],
            stdin=stdin,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
            cwd=place,
            env=environ,
            timeout=SECONDS,
            check=False,
        )


def call(case, place):
    """Run a case in this process and working directory; return a result like that of a new process."""
    environ, code = case.prepare(place), 0
    stdin = io.TextIOWrapper(io.BytesIO(case.stdin), "utf-8")
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    with (
        _logging_left_alone(),
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch.object(sys, "argv", ["confcom", *map(os.fsdecode, case.arguments)]),
        mock.patch.multiple(sys, stdin=stdin, stdout=stdout, stderr=stderr),
    ):
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        except Exception:  # noqa: BLE001 # print any error, as the interpreter does
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(case.arguments, code, stdout.buffer.getvalue(), stderr.buffer.getvalue())


@contextlib.contextmanager
def _logging_left_alone():
    """Restore the root logger afterwards, because commands that start daemons change the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
