"""The public commands that the demo runs and prints."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from confcom.errors import ConfcomError
from confcom.playground.demo.interrupts import Interrupts

MARK_VARIABLE = "CONFCOM_DEMO"
"""The variable in the processes' environment whose value is the demo's folder."""

COMMAND_SECONDS = 30
"""Deadline for a command: it normally takes less than a second."""


class StepError(ConfcomError):
    """A step of the demo failed."""

    error_code = "step-failed"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command."""

    shown: str
    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        """Parse its output as a JSON object."""
        value = None
        with contextlib.suppress(ValueError):
            value = json.loads(self.stdout)
        if not isinstance(value, dict):
            raise StepError(
                f"`{self.shown}` printed no JSON object",
                error_code="output-not-json",
                why=self.last_output,
                remedy="run it by hand to see more",
            )
        return value

    @property
    def last_output(self) -> str:
        """The last lines of its output, for error messages."""
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return " / ".join(lines[-3:])[:500] or f"it printed nothing and exited {self.exit_code}"


@dataclass(frozen=True, slots=True)
class Commands:
    """Starts `confcom` commands, or replacements of them, with which tests make steps fail.

    Attributes:
        replacements: command name -> argv prefix that replaces `confcom NAME`.
        environment: the whole environment of every process.
        interrupts: delays signals while a process is started.
        variables: shell variable -> the long value that it replaces in printed commands.
    """

    environment: Mapping[str, str]
    replacements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    interrupts: Interrupts = field(default_factory=Interrupts)

    def argv(self, name: str, *arguments: str) -> list[str]:
        """Return the argv that is executed for `confcom NAME ARGUMENTS`."""
        return [*self.replacements.get(name, (*self._module("confcom"), name)), *arguments]

    def shown(self, name: str, *arguments: str) -> str:
        """Return the same command as a user types it."""
        return self.abbreviate(shlex.join(["confcom", name, *arguments]))

    def abbreviate(self, text: str) -> str:
        """Replace the long values in a command by their shell variables."""
        for name, value in self.variables.items():
            text = text.replace(value, f"${name}")
        return text

    def start_guardian(self, folder: Path, *, remove_folder: bool) -> subprocess.Popen[bytes]:
        """Start the guardian, which ends the demo's processes if the demo is killed; it waits on its stdin."""
        arguments = [f"{MARK_VARIABLE}={folder}", str(folder), "remove" if remove_folder else "empty"]
        argv = [*self._module("confcom.playground.runtime.guardian"), *arguments]
        inherited = {name: value for name, value in self.environment.items() if name != MARK_VARIABLE}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env=inherited, start_new_session=True
        )

    def _module(self, module: str) -> list[str]:
        """Return the argv that runs a module; with -P nothing is imported from the current directory."""
        return [sys.executable, "-P", "-m", module]

    def popen(self, argv: list[str], stdout: IO[bytes] | int, stderr: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that Ctrl-C at the terminal reaches only the demo."""
        environment = dict(self.environment)
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment, start_new_session=True
        )

    def run(self, name: str, *arguments: str, accept: Sequence[int] = (0,)) -> CommandResult:
        """Run a command, and wait until it ends.

        Raises:
            StepError: its exit code is not in `accept`, or it exceeds COMMAND_SECONDS.
        """
        return self._run(self.shown(name, *arguments), self.argv(name, *arguments), accept)

    def run_module(self, module: str, *arguments: str) -> CommandResult:
        """Run a program of the project that is not a `confcom` command, with the same interpreter."""
        shown = self.abbreviate(shlex.join(["python", "-m", module, *arguments]))
        return self._run(shown, [*self._module(module), *arguments], (0,))

    def _run(self, shown: str, argv: list[str], accept: Sequence[int]) -> CommandResult:
        process: subprocess.Popen[bytes] | None = None
        try:
            with self.interrupts.held():
                process = self.popen(argv, subprocess.PIPE, subprocess.PIPE)
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            why = f"{COMMAND_SECONDS} s are more than it ever needs"
            raise StepError(f"`{shown}` did not end", error_code="command-too-slow", why=why) from error
        finally:
            if process is not None:
                _end(process)
        result = CommandResult(shown, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if result.exit_code not in accept:
            wanted = " or ".join(map(str, accept))
            raise StepError(
                f"`{shown}` exited {result.exit_code} where {wanted} was due",
                error_code="command-failed",
                why=result.last_output,
                remedy="run the command by hand; `confcom demo --keep` keeps its folder",
            )
        return result


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def read_tail(path: Path) -> str:
    """Return the last lines of a log, for an error message; "" if the log cannot be read."""
    try:
        return " / ".join(path.read_text(errors="replace").splitlines()[-5:])
    except OSError:
        return ""
