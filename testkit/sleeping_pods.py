"""Pods that request the largest answers and read none, and a victim beside them. The script runs the Pods.

Usage: sleeping_pods.py SOCKET PODS CONNECTIONS

Each Pod has its own user, because SO_PEERCRED is the effective user of connect(2); so the script needs root. A
line on stdin starts a burst: each Pod makes CONNECTIONS connections, requests a quote in the largest buffer on each
connection, and sleeps. The script answers with a line that has the number of connections. A connection with an
unread answer in the kernel's buffer stays open, even if the helper has ended.
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import statistics
import sys
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import GetQuoteExRequest
from confcom.aesm.request_checks import MAX_QUOTE_BUFFER_SIZE
from confcom.aesm.session import HEADER_SIZE, encode_frame
from confcom.client import AesmClient
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.simulation.enclave import SimulatedEnclave

FIRST_USER = 20_000
CONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""The victim's time limit in seconds, long enough that slow answers are measured and not missed."""
PAUSE_SECONDS = 0.004
VICTIMS_BUFFER = 8192


def quote_request(path: Path, name: str, buf_size: int) -> bytes:
    target = AesmClient(path).init_quote().target_info
    report = SimulatedEnclave.from_name(name).create_report(target, bytes(64)).encode()
    return encode_frame(encode_request(GetQuoteExRequest(report, buf_size, att_key_id=ECDSA_P256_KEY_ID.encode())))


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote that the victim got: begin and end in the clock's seconds, and the number of attempts."""

    began: float
    ended: float
    attempts: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def overlaps(self, intervals: list[tuple[float, float]]) -> bool:
        return any(self.began < end and start < self.ended for start, end in intervals)


class Victim:
    """A client that runs in a thread, gets one quote after the other, and repeats failed requests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frame = quote_request(path, "victim", VICTIMS_BUFFER)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.quotes: list[Quote] = []
        self.failure = ""
        """Reason why the victim's last attempt failed."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            began, attempts = time.monotonic(), 1
            while not self._ask():
                attempts += 1
                if self._stop.wait(0.01):
                    return
            self.quotes.append(Quote(began, time.monotonic(), attempts))

    def _ask(self) -> bool:
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_SECONDS)
                client.connect(str(self._path))
                client.sendall(self._frame)
                while chunk := client.recv(65_536):
                    answer += chunk
        except OSError as error:
            self.failure = str(error)
            return False
        if not answer:
            self.failure = "closed without an answer"
            return False
        code = decode_response(bytes(answer[HEADER_SIZE:]), GetQuoteExRequest.kind).error_code
        self.failure = f"code {code}"
        return code == 0


def p99(quotes: list[Quote]) -> float:
    """Return the 99th percentile of the seconds from a quote's first attempt to its answer."""
    return statistics.quantiles([quote.seconds for quote in quotes], n=100)[98]


def unread(client: socket.socket) -> int:
    """Return how many bytes the kernel holds unread for a client; after the helper's end this may be 0."""
    return int.from_bytes(fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def burst(path: str, frame: bytes, pods: int, connections: int) -> list[socket.socket]:
    made = []
    for _ in range(connections):
        for pod in range(pods):
            os.seteuid(FIRST_USER + pod)
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(CONNECT_SECONDS)
            try:
                client.connect(path)
                client.sendall(frame)
            except OSError:
                client.close()
            else:
                made.append(client)
            os.seteuid(0)
    return made


def main() -> int:
    path, pods, connections = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    frame = quote_request(path, "sleeping", MAX_QUOTE_BUFFER_SIZE)
    held: list[socket.socket] = []
    for _ in sys.stdin:
        for client in held:
            if not unread(client):
                client.close()
        made = burst(str(path), frame, pods, connections)
        held = [client for client in held if client.fileno() >= 0] + made
        sys.stdout.write(f"{len(made)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
