"""`confcom` as a process with files, programs and streams as a case has them.

Run as a program, this is a server that has imported what commands import, and forks for each case: a hundred cases take
seconds then. Whoever wants the interpreter's own start has each case executed instead.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass, field

PR_CAPBSET_DROP = 24
DAC_CAPABILITIES = (1, 2)
"""By which root reads and writes what its mode forbids: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH."""
SECONDS = 50
KEPT = ("PYTHONPATH", "LANG")


@dataclass(frozen=True, slots=True)
class Case:
    """One call, and what stands around it."""

    arguments: tuple
    stdin: bytes = b""
    closed: tuple[int, ...] = ()
    """Standard streams, by number."""
    programs: dict = field(default_factory=dict)
    """By name: the script in its place."""
    environ: dict = field(default_factory=dict)

    def environment(self, place):
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {**kept, "PATH": str(place / "bin"), "HOME": str(place), "TERM": "xterm", **self.environ}

    def prepare(self, place):
        """Lay out what it finds."""
        programs = place / "bin"
        programs.mkdir(exist_ok=True)
        for old in programs.iterdir():
            old.unlink()
        for name, script in self.programs.items():
            (programs / name).write_bytes(script)
            (programs / name).chmod(0o755)
        (place / "stdin").write_bytes(self.stdin)


def without_root_powers():
    """Have modes of files hold for this process's next program, although root starts it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        for capability in DAC_CAPABILITIES:
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


def execute(case, place):
    """Runs it as a person's shell does."""
    case.prepare(place)

    def prepare():
        without_root_powers()
        for descriptor in case.closed:
            os.close(descriptor)

    with (place / "stdin").open("rb") as stdin:
        return subprocess.run(
            [sys.executable, "-P", "-m", "confcom", *case.arguments],
            stdin=stdin,
            capture_output=True,
            cwd=place,
            env=case.environment(place),
            preexec_fn=prepare,
            timeout=SECONDS,
            check=False,
        )


class Server:
    """Runs cases in one folder."""

    def __init__(self, place):
        self.place = place
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=place,
            preexec_fn=without_root_powers,  # noqa: PLW1509 # nothing that threads share is touched
        )

    def run(self, case):
        case.prepare(self.place)
        words = [os.fsdecode(word) for word in case.arguments]
        asked = json.dumps({"arguments": words, "environ": case.environment(self.place)})
        self._process.stdin.write(asked.encode() + b"\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        out, err = ((self.place / name).read_bytes() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(case.arguments, code, out, err)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve():
    from confcom.cli.group import COMMANDS, cli

    for name in COMMANDS:
        cli.get_command(None, name)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            work(asked)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def work(asked):
    from confcom.cli.main import main

    signal.alarm(SECONDS)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o600), descriptor)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    os.environ.clear()
    os.environ.update(asked["environ"])
    sys.argv = ["confcom", *asked["arguments"]]
    code = 0
    try:
        main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:  # noqa: BLE001 # as the interpreter does
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(int(code))


if __name__ == "__main__":
    serve()
