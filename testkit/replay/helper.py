"""A real helper process on a socket of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from testkit.fresh_metrics import FreshPage
from testkit.replay import wire

START_SECONDS = 30
ALTERED = Path(__file__).with_name("altered.py")


@dataclass(frozen=True, slots=True)
class RunningHelper:
    """A helper process, with the sockets of AESM and of its probes, its platform's directory, and its log."""

    process: subprocess.Popen[bytes]
    socket: Path
    state_dir: Path
    log: Path
    probes: Path
    page: FreshPage = field(default_factory=FreshPage)

    def metrics(self) -> dict[str, float]:
        """All metrics as they are now, by their names with labels. A second call waits for the next rendering."""
        self.page.wait()
        _, page = http_get(self.probes, "/metrics")
        self.page.received()
        lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def metric(self, name: str) -> float:
        """One metric's value; 0 if it is not there yet."""
        return self.metrics().get(name, 0.0)

    def get(self, target: str) -> tuple[int, str]:
        """Status and body of a probe's answer; 0 as long as nobody answers."""
        try:
            return http_get(self.probes, target)
        except (FileNotFoundError, ConnectionError):
            return 0, ""

    @property
    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.get("/readyz")[0] == 200

    def unready_for(self, code: str) -> bool:
        """Whether it is not ready for the reason that has this code. A second call waits for the next rendering."""
        return self.metric(f'confcom_quote_helper_not_ready_info{{code="{code}"}}') == 1

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged, if its log is JSON."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines that it has logged about one kind of event."""
        return [line for line in self.lines() if line.get("event") == name]

    def wait_ready(self) -> RunningHelper:
        """Wait until it is ready."""
        self.wait_until(lambda: self.ready)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(START_SECONDS)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Look again and again, as a kubelet does, while the process lives."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"waited in vain\n{self.log.read_text()}"
            time.sleep(0.005)

    def send(self, *pieces: bytes, half_close: bool = False) -> bytes:
        """Send raw bytes, each piece by a write() of its own, and take what comes until the end."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START_SECONDS)
            client.connect(str(self.socket))
            for piece in pieces:
                client.sendall(piece)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            answer = bytearray()
            # What the helper did not read is answered by the kernel with a reset, after the answer.
            with contextlib.suppress(ConnectionResetError):
                while chunk := client.recv(65_536):
                    answer += chunk
            return bytes(answer)

    def ask(self, body: bytes) -> bytes:
        """Send one request and return its answer's body: empty if the connection was closed without one."""
        answer = self.send(wire.frame(body))
        assert int.from_bytes(answer[: wire.HEADER_SIZE], "little") == max(0, len(answer) - wire.HEADER_SIZE)
        return answer[wire.HEADER_SIZE :]


def http_get(path: Path, target: str) -> tuple[int, str]:
    """Status and body of an answer of the probe server, which closes after each."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(START_SECONDS)
        client.connect(str(path))
        client.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
        answer = bytearray()
        while chunk := client.recv(65_536):
            answer += chunk
    head, _, body = bytes(answer).decode().partition("\r\n\r\n")
    if not head:
        raise ConnectionError("closed without an answer")
    return int(head.split()[1]), body


def start_helper(
    *arguments: str,
    directory: Path,
    path: Path | None = None,
    alterations: Mapping[str, object] | None = None,
    inside: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda command: command,
    environ: Mapping[str, str] = MappingProxyType({}),
    stderr: int | None = None,
) -> RunningHelper:
    """Start `python -m confcom.quote_helper`; whoever calls this ends it.

    Args:
        arguments: further flags; without --provider it is on a simulated platform.
        directory: where state, log and probes are, and the socket; another helper may be there.
        path: of the socket, if it is elsewhere.
        alterations: for `replay.altered`; None: the program as it is.
        inside: makes the command that becomes the helper's, as in a control group of its own.
        environ: variables besides those of this process.
        stderr: where it logs; None: to a file.
    """
    unique = secrets.token_hex(4)
    path, probes, log = path or directory / "aesm.socket", directory / f"{unique}.probes", directory / f"{unique}.log"
    state_dir = directory / "state"
    platform = () if "--provider" in arguments else ("--simulated", "--state-dir", str(state_dir))
    program = ["-m", "confcom.quote_helper"] if alterations is None else [str(ALTERED), json.dumps(alterations)]
    command = (
        *(sys.executable, *program, *platform, "--socket", str(path)),
        *("--probe-address", f"unix:{probes}", *arguments),
    )
    with log.open("wb") as stream:
        process = subprocess.Popen(
            inside(command),
            stdin=subprocess.DEVNULL,
            stderr=stream if stderr is None else stderr,
            env={**os.environ, **environ},
        )
    return RunningHelper(process, path, state_dir, log, probes)


@contextlib.contextmanager
def running_helper(
    *arguments: str, directory: Path | None = None, ready: bool = True, **options: Any
) -> Iterator[RunningHelper]:
    """Run a helper as long as the block runs.

    Args:
        arguments: further flags; without --provider it is on a simulated platform.
        directory: where socket and state are; another helper may be there. None: one of its own.
        ready: False for one that cannot get ready.
        options: as for `start_helper`.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="replay-")))
        helper = start_helper(*arguments, directory=directory, **options)
        try:
            helper.wait_until(lambda: helper.get("/readyz")[0] == (200 if ready else 503) and helper.socket.exists())
            yield helper
        finally:
            helper.process.kill()  # how one stops in order is not what is tested here, and it takes its time
            helper.process.wait(START_SECONDS)
