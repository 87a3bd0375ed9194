"""Many clients that ask for one quote per connection. Measuring the latencies takes little CPU time."""

from __future__ import annotations

import math
import secrets
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.aesm import messages_pb2
from confcom.aesm.error_code import AesmErrorCode
from confcom.client import AesmClient
from confcom.sgx.report import REPORT_BODY_SIZE, REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire
from testkit.replay.clients import KEY

RECEIVE_BYTES = 65_536
"""Largest number of bytes that one recv(2) reads; every answer is smaller."""
ANSWER_SECONDS = 30.0
"""Seconds without an answer after which a server counts as hung."""
SAMPLE_EVERY = 100
"""One out of this number of quotes is kept, to be verified later."""

ENCLAVE = SimulatedEnclave.from_name("benchmark")


@dataclass(frozen=True, slots=True)
class PreparedQuote:
    """A request that is made before the measurement, so that the enclave's work does not count."""

    frame: bytes
    report_body: bytes
    report_data: bytes


@dataclass(frozen=True, slots=True)
class Latency:
    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Latencies of any number of calls; all are zero if there were no calls."""
        if not seconds:
            return cls(0, 0.0, 0.0, 0.0)
        ordered = sorted(seconds)
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))  # the nearest rank
        return cls(len(ordered), p50, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Served:
    seconds: float
    latencies: list[float]
    """Seconds from before each connect() to the end of its answer."""
    sample: list[tuple[bytes, bytes]]
    """Quotes, each with its report data."""


class WrongAnswerError(Exception):
    """The measured server gave a wrong answer; the text describes it."""


def target_of(path: Path) -> tuple[TargetInfo, int]:
    """Ask the server for the target info for reports, and for the size of a quote."""
    client = AesmClient(path)
    return client.init_quote().target_info, client.quote_size()


def prepare(target: TargetInfo, quote_size: int, count: int) -> list[PreparedQuote]:
    """Requests with a fresh report each, as Intel's client writes them."""
    tail = wire.data(2, KEY) + wire.number(4, quote_size) + wire.number(9, 15_000)
    prepared = []
    for _ in range(count):
        report_data = secrets.token_bytes(REPORT_DATA_SIZE)
        report = ENCLAVE.create_report(target, report_data).encode()
        frame = wire.frame(wire.data(17, wire.data(1, report) + tail))
        prepared.append(PreparedQuote(frame, report[:REPORT_BODY_SIZE], report_data))
    return prepared


def serve_all(path: Path, prepared: list[PreparedQuote], *, clients: int) -> Served:
    """Request all quotes, `clients` at a time. After each answer, send the next request at once."""
    address = str(path)
    waiting: dict[int, tuple[socket.socket, PreparedQuote, float]] = {}
    latencies: list[float] = []
    sample: list[tuple[bytes, bytes]] = []
    clock = time.perf_counter
    started = clock()
    with select.epoll() as epoll:
        todo = iter(prepared)

        def ask_next() -> None:
            request = next(todo, None)
            if request is None:
                return
            began = clock()
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(address)
            sock.send(request.frame)
            waiting[sock.fileno()] = (sock, request, began)
            epoll.register(sock, select.EPOLLIN)

        for _ in range(clients):
            ask_next()
        while waiting:
            events = epoll.poll(ANSWER_SECONDS)
            if not events:
                raise WrongAnswerError(f"no answer within {ANSWER_SECONDS:g} s")
            for descriptor, _ in events:
                sock, request, began = waiting.pop(descriptor)
                answer = sock.recv(RECEIVE_BYTES)
                latencies.append(clock() - began)
                sock.close()
                if request.report_body not in answer:
                    raise WrongAnswerError(f"an answer of {len(answer)} bytes without the report that was sent")
                if len(latencies) % SAMPLE_EVERY == 0:
                    sample.append((quote_in(answer), request.report_data))
                ask_next()
    return Served(clock() - started, latencies, sample)


def quote_in(answer: bytes) -> bytes:
    response = messages_pb2.Response.FromString(answer[wire.HEADER_SIZE :]).get_quote_ex
    if response.error_code != AesmErrorCode.SUCCESS or not response.quote:
        raise WrongAnswerError(f"no quote: error code {response.error_code}")
    return bytes(response.quote)
