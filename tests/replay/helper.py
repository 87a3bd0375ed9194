"""A real helper process on a socket of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replay import wire
from replay.sequences import GRAMINE, ReplayedClient

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class RunningHelper:
    """A helper that is ready.

    Args:
        pid: its process.
        socket: where it answers.
        state_dir: its simulated platform's.
        log: what it wrote to stderr.
    """

    pid: int
    socket: Path
    state_dir: Path
    log: Path

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


@contextlib.contextmanager
def running_helper(*arguments: str) -> Iterator[RunningHelper]:
    """Start one, wait until it quotes, and end it; nothing stays.

    Args:
        arguments: flags besides those that say where everything is.
    """
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="replay-"))
    path, state_dir, log = directory / "aesm.socket", directory / "state", directory / "log"
    command = [
        *(sys.executable, "-m", "confcom.quote_helper", "--simulated"),
        *("--state-dir", str(state_dir), "--socket", str(path), *arguments),
    ]
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stream, env=os.environ)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not path.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "the helper does not bind its socket"
                time.sleep(0.005)
            ready = ReplayedClient(GRAMINE, path).start()  # held by the helper until it can quote
            assert not ready.failure, f"{ready.failure}\n{log.read_text()}"
            yield RunningHelper(process.pid, path, state_dir, log)
        finally:
            process.terminate()
            process.wait(START_SECONDS)
    finally:
        shutil.rmtree(directory)
