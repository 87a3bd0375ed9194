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
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confcom.daemon.probe_server import RENDERING_SECONDS
from testkit.fresh_metrics import FreshPage
from testkit.replay import wire

START_SECONDS = 30
ALTERED = Path(__file__).with_name("altered_helper.py")


@dataclass(frozen=True, slots=True)
class RunningHelper:
    process: subprocess.Popen[bytes]
    socket: Path
    state_dir: Path
    log: Path
    probes: Path
    page: FreshPage

    def metrics(self) -> dict[str, float]:
        """All current metrics, keyed by name and labels. A second call waits for a newly rendered page."""
        self.page.wait()
        _, page = http_get(self.probes, "/metrics")
        self.page.received()
        lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def metric(self, name: str) -> float:
        return self.metrics().get(name, 0.0)

    def get(self, target: str) -> tuple[int, str]:
        try:
            return http_get(self.probes, target)
        except (FileNotFoundError, ConnectionError):
            return 0, ""

    @property
    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def unready_for(self, code: str) -> bool:
        return self.metric(f'confcom_quote_helper_not_ready_info{{code="{code}"}}') == 1

    def lines(self) -> list[dict[str, Any]]:
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]

    def wait_ready(self) -> RunningHelper:
        self.wait_until(lambda: self.ready)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(START_SECONDS)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"waited in vain\n{self.log.read_text()}"
            time.sleep(0.005)

    def send(self, *pieces: bytes, half_close: bool = False) -> bytes:
        """Send each piece of raw bytes with its own write(); return all bytes received until the end."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START_SECONDS)
            client.connect(str(self.socket))
            for piece in pieces:
                client.sendall(piece)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            answer = bytearray()
            # If the helper left input unread, the kernel sends a reset after the answer.
            with contextlib.suppress(ConnectionResetError):
                while chunk := client.recv(65_536):
                    answer += chunk
            return bytes(answer)

    def ask(self, body: bytes) -> bytes:
        """Send one request; return the answer's body, which is empty if the helper gave no answer."""
        answer = self.send(wire.frame(body))
        assert int.from_bytes(answer[: wire.HEADER_SIZE], "little") == max(0, len(answer) - wire.HEADER_SIZE)
        return answer[wire.HEADER_SIZE :]


def http_get(path: Path, target: str) -> tuple[int, str]:
    """Status and body of the probe server's answer; the server closes the connection after an answer."""
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
    """Start `python -m confcom.quote_helper`, on a simulated platform unless --provider is among the arguments.

    The directory is for state, log, probe socket and AESM socket. Several helpers may share the directory.
    `altered_helper` applies `alterations`. `inside` wraps the command, for example to enter a control group.
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
    rendering = (alterations or {}).get("rendering_seconds", RENDERING_SECONDS)
    return RunningHelper(process, path, state_dir, log, probes, FreshPage(rendering))


@contextlib.contextmanager
def running_helper(
    *arguments: str, directory: Path | None = None, ready: bool = True, **options: Any
) -> Iterator[RunningHelper]:
    """Run a helper during the block, by default in a new directory; `ready=False` means that it cannot get ready."""
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="replay-")))
        helper = start_helper(*arguments, directory=directory, **options)
        try:
            helper.wait_until(lambda: helper.get("/readyz")[0] == (200 if ready else 503) and helper.socket.exists())
            yield helper
        finally:
            helper.process.kill()  # a normal stop would be slow, and is not tested here
            helper.process.wait(START_SECONDS)
