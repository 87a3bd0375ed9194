"""The processes and the folder of one demo. Every process that was started is ended, also after an error."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from confcom.playground.demo.commands import Commands, StepError, read_tail
from confcom.playground.demo.interrupts import SIGNALS
from confcom.playground.runtime.guardian import clear

READY_SECONDS = 20
"""Deadline for a daemon's readiness, which takes a fraction of a second; a loaded machine may need several seconds."""

STOP_SECONDS = 5
"""A daemon that has not ended this long after SIGTERM is killed."""

POLL_SECONDS = 0.02


class UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, for the daemons' probes."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def probe(path: Path) -> tuple[bool, str]:
    """Request a daemon's /readyz; return whether it is ready, and the answer's text."""
    connection = UnixHTTPConnection(path, timeout=2)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status == http.client.OK, response.read(500).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"its probe socket does not answer ({error})"
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process of the demo."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require_alive(self) -> None:
        """Raise StepError if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise StepError(
                f"the {self.name} ended with exit code {code}", error_code="process-ended", why=read_tail(self.log)
            )


class ProcessGroup:
    """The demo's processes: starts each in a session of its own, and ends them in reverse order.

    Args:
        folder: the folder of the demo's files; emptied at the end.
        commands: starts processes.
        owns_folder: whether the folder is removed too.
        ready_seconds: how long to wait for a daemon.
    """

    def __init__(
        self, folder: Path, commands: Commands, *, owns_folder: bool, ready_seconds: float = READY_SECONDS
    ) -> None:
        self.folder = folder
        self.commands = commands
        self.ready_seconds = ready_seconds
        self.running: dict[str, RunningProcess] = {}
        self._owns_folder = owns_folder
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Create the folder of the logs, and start the guardian."""
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self._guardian = self.commands.start_guardian(self.folder, remove_folder=self._owns_folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes and clear the folder; another Ctrl-C does not interrupt the cleanup."""
        del kind, error, trace
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        try:
            self.close()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def start(self, name: str, command: str, *arguments: str) -> str:
        """Start a command as a process of its own; its output goes to logs/NAME.log.

        Returns:
            The command as a user types it.
        """
        log = self.folder / "logs" / f"{name}.log"
        with log.open("ab") as output, self.commands.interrupts.held():
            process = self.commands.popen(self.commands.argv(command, *arguments), output, output)
            self.running[name] = RunningProcess(name, process, log)
        return self.commands.shown(command, *arguments)

    def wait_until(self, what: str, ready: Callable[[], tuple[bool, str]]) -> None:
        """Poll until `ready` returns true; fail as soon as a process of the demo has ended.

        Args:
            what: the condition as a noun, for the error, such as "readiness of the quote helper".
            ready: returns whether the condition holds, and a description of the current state.

        Raises:
            StepError: a process ended, or it took longer than `ready_seconds`.
        """
        deadline = time.monotonic() + self.ready_seconds
        while True:
            done, said = ready()
            if done:
                return
            for running in self.running.values():
                running.require_alive()
            if time.monotonic() > deadline:
                raise StepError(
                    f"{what} did not happen within {self.ready_seconds:g} s", error_code="not-ready-in-time", why=said
                )
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End every process, SIGTERM first; empty the folder, and remove it if the demo created it."""
        for running in reversed(self.running.values()):
            _end(running.process)
        self.running.clear()
        clear(self.folder, remove_folder=self._owns_folder)
        if self._guardian is not None:
            self._guardian.communicate()
            self._guardian = None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)
