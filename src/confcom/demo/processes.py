"""Runs the demo's processes: public commands (daemons, and commands that end by themselves), and the guardian."""

import asyncio
import contextlib
import json
import shlex
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from confcom.demo.guardian import MARK_VARIABLE
from confcom.errors import ConfcomError, shortened

COMMAND_SECONDS = 30
"""Deadline in seconds for a command, which normally takes less than a second."""

READY_SECONDS = 20.0
"""Deadline for a daemon's readiness and for a Job; both take a second, or several on a loaded machine."""

POLL_SECONDS = 0.02


class StepError(ConfcomError):
    """A step of the demo failed."""

    error_code = "step-failed"


@dataclass(frozen=True, slots=True)
class Processes:
    """The demo's processes. Every process has the mark and its own session, so Ctrl-C reaches only the demo."""

    folder: Path
    inherited: Mapping[str, str]
    """The environment of every process, to which the mark is added."""
    replacements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Keyed by a command's name: the beginning of a command that replaces `confcom NAME` in tests."""
    ready_seconds: float = READY_SECONDS
    variables: dict[str, str] = field(default_factory=dict)
    """Keyed by a shell variable: the long value that the variable replaces in printed commands."""
    daemons: dict[str, Process] = field(default_factory=dict)

    def shown(self, *command: str) -> str:
        text = shlex.join(command)
        for name, value in self.variables.items():
            text = text.replace(value, f"${name}")
        return text

    async def start(self, name: str, *arguments: str) -> None:
        with self.log(name).open("ab") as log:
            self.daemons[name] = await self._spawn(self._argv("confcom", name, *arguments), log, log)

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    async def run(self, *command: str, accept: Collection[int] = (0,)) -> tuple[int, dict[str, Any]]:
        """Run a command that prints a JSON object. Return the exit code and the printed object."""
        shown, output = self.shown(*command), ("--output", "json") if command[0] == "confcom" else ()
        process = await self._spawn([*self._argv(*command), *output], PIPE, PIPE)
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate()
                code = await process.wait()
        except TimeoutError:
            raise StepError(f"`{shown}` took longer than {COMMAND_SECONDS} s", error_code="not-ready-in-time") from None
        finally:
            if process.returncode is None:
                process.kill()
        why = shortened(" / ".join((err or out).decode(errors="replace").split("\n")[-4:]).strip(" /"))
        if code not in accept:
            raise StepError(f"`{shown}` exited {code}", error_code="command-failed", why=why)
        value = None
        with contextlib.suppress(ValueError):
            value = json.loads(out)
        if not isinstance(value, dict):
            raise StepError(f"`{shown}` printed no JSON object", error_code="output-not-json", why=why)
        return code, value

    async def until(self, what: str, obstacle: Callable[[], str]) -> None:
        """Wait until `obstacle` returns "". Fail after `ready_seconds`, or as soon as a daemon has ended."""
        deadline = time.monotonic() + self.ready_seconds
        while why := obstacle():
            self.require_alive()
            if time.monotonic() > deadline:
                raise StepError(f"no {what} within {self.ready_seconds:g} s", error_code="not-ready-in-time", why=why)
            await asyncio.sleep(POLL_SECONDS)

    def require_alive(self) -> None:
        for name, process in self.daemons.items():
            if process.returncode is not None:
                raise StepError(
                    f"the {name} ended with exit code {process.returncode}",
                    error_code="process-ended",
                    why=" / ".join(self.log(name).read_text(errors="replace").splitlines()[-5:]),
                )

    def _argv(self, program: str, *arguments: str) -> list[str]:
        if program == "confcom" and arguments[0] in self.replacements:
            return [*self.replacements[arguments[0]], *arguments[1:]]
        # -P keeps Python from importing from the current directory.
        return [sys.executable, "-P", *(("-m", "confcom") if program == "confcom" else ()), *arguments]

    async def _spawn(self, argv: list[str], stdout: IO[bytes] | int, stderr: IO[bytes] | int) -> Process:
        environment = {**self.inherited, MARK_VARIABLE: str(self.folder)}
        return await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=stdout, stderr=stderr, env=environment, start_new_session=True
        )


@contextlib.asynccontextmanager
async def guarded(processes: Processes) -> AsyncIterator[None]:
    """Run the guardian. After the block, the guardian ends all processes and removes the folder."""
    command = ("-m", "confcom.demo.guardian", str(processes.folder))
    try:
        guardian = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", *command),
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
            env=dict(processes.inherited),
            start_new_session=True,
        )
    except BaseException:
        processes.folder.rmdir()
        raise
    try:
        yield
    finally:
        if guardian.stdin is not None:
            guardian.stdin.close()
        await guardian.wait()
        await asyncio.gather(*(process.wait() for process in processes.daemons.values()))
