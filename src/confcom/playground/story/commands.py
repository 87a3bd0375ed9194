"""The public commands that the story uses: what is printed is what is run."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confcom.playground.story.report import StepFailed

COMMAND_SECONDS = 30
"""A command of the story takes under a second; one that takes this long hangs."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    shown: str
    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, object]:
        """Its `--output json`.

        Raises:
            StepFailed: it printed something else.
        """
        try:
            value = json.loads(self.stdout)
        except ValueError as error:
            raise StepFailed(
                f"`{self.shown}` printed no JSON", why=self.last_words, remedy="run it by hand to see more"
            ) from error
        if not isinstance(value, dict):
            raise StepFailed(f"`{self.shown}` printed JSON that is no object", why=self.stdout[:200])
        return value

    @property
    def last_words(self) -> str:
        """What it said last, for error messages."""
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return " / ".join(lines[-3:])[:500] or f"it printed nothing and exited {self.exit_code}"


@dataclass(frozen=True, slots=True)
class Commands:
    """How to start `confcom`, and what to start instead of single commands (tests sabotage the story with it).

    Attributes:
        confcom: argv prefix of the command itself.
        instead: command name -> argv prefix that replaces `confcom NAME`.
        environment: the whole environment of every process.
        hidden: the longest paths first, each with the name under which the story shows it.
    """

    confcom: tuple[str, ...]
    environment: Mapping[str, str]
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def argv(self, name: str, *arguments: str) -> list[str]:
        """What is executed for `confcom NAME ARGUMENTS`."""
        return [*self.instead.get(name, (*self.confcom, name)), *arguments]

    def shown(self, name: str, *arguments: str) -> str:
        """What a person types for the same."""
        return shlex.join(["confcom", name, *arguments])

    def run(
        self, name: str, *arguments: str, accept: Sequence[int] = (0,), stdin: bytes | None = None
    ) -> CommandResult:
        """Run a command to its end.

        Raises:
            StepFailed: an exit code that is not in `accept`, or it hangs.
        """
        shown = self.shown(name, *arguments)
        try:
            done = subprocess.run(
                self.argv(name, *arguments),
                input=stdin,
                stdin=None if stdin is not None else subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                env=dict(self.environment),
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise StepFailed(
                f"`{shown}` did not end", why=f"{COMMAND_SECONDS} s are more than it ever needs"
            ) from error
        result = CommandResult(
            shown, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if result.exit_code not in accept:
            wanted = " or ".join(map(str, accept))
            raise StepFailed(
                f"`{shown}` exited {result.exit_code} where {wanted} was due",
                why=result.last_words,
                remedy="run the command by hand; `confcom demo --keep` keeps its folder",
            )
        return result


def read_tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log, for an error message; empty if there is none."""
    try:
        return " / ".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
