"""Runs a client's sequence against a socket: blocking, without retries, every answer checked."""

from __future__ import annotations

import errno
import secrets
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.sgx.report import NONCE_SIZE, REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire
from testkit.replay.model import Address, ClientGivesUpError, ClientSequence, Fields, Read, State, Step, Write
from testkit.replay.steps import integer

ABSTRACT_NAME = b"\0sgx_aesm_socket_base".ljust(108, b"\0")
"""The name of PSW 1.6 and 1.7, padded to the whole of sun_path as Gramine and Fortanix connect to it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it.

    Args:
        call: which request.
        seconds: from before connect() to the end of the answer.
        code: AESM's error code; None if there was no answer that had one.
        error: what the client would complain about; empty if it goes on.
    """

    call: MessageKind
    seconds: float
    code: int | None
    error: str

    @property
    def stale(self) -> bool:
        """Whether the client was told to call InitQuoteEx again."""
        return self.code == AesmErrorCode.ATT_KEY_NOT_INITIALIZED


@dataclass(frozen=True, slots=True)
class Run:
    """What a client went through.

    Args:
        exchanges: in order.
        failure: why it does not have what it wanted, with the call's name; empty if it has.
        renewals: how often it was told 42 and started again.
        quotes: the quotes it got, without padding, each with the report data it carries.
    """

    exchanges: tuple[Exchange, ...]
    failure: str
    renewals: int
    quotes: tuple[tuple[bytes, bytes], ...]

    @property
    def code(self) -> int | None:
        """The last answer's error code."""
        return self.exchanges[-1].code if self.exchanges else None


class ReplayedClient:
    """One process of a client. Threads must not share it.

    Args:
        sequence: which client.
        path: where its compiled-in path lies here.
        clock: for the times in the results, in seconds.
        random_bytes: for report data and nonces.
        enclave: whose reports it has quoted.
        longest_wait: seconds after which even a client that waits for ever is ended.
        abstract_name: the other place where some clients look.
    """

    def __init__(
        self,
        sequence: ClientSequence,
        path: Path | str,
        *,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        enclave: SimulatedEnclave | None = None,
        longest_wait: float = 60.0,
        abstract_name: bytes = ABSTRACT_NAME,
    ) -> None:
        self.sequence = sequence
        self.enclave = enclave or SimulatedEnclave.from_name(f"replayed {sequence.name}")
        self._path = Path(path)
        self._clock = clock
        self._random_bytes = random_bytes
        self._longest_wait = longest_wait
        self._abstract_name = abstract_name
        self._state = State(self.enclave)

    def run(self) -> Run:
        """A whole process: what it does once, then one attestation."""
        started = self.start()
        if started.failure:
            return started
        run = self.quote()
        return replace(run, exchanges=started.exchanges + run.exchanges)

    def start(self) -> Run:
        """What the client does once; what it learns stays."""
        exchanges, _ = self._steps(self.sequence.start)
        return Run(exchanges, _failure(exchanges), 0, ())

    def quote(self) -> Run:
        """One attestation; a client that is told 42 starts again as often as it does."""
        exchanges, quotes = self._attempt()
        renewals = 0
        while exchanges[-1].stale and renewals < self.sequence.stale_attempts:
            renewals += 1
            more, _ = self._steps(self.sequence.renew)
            exchanges += more
            if not _failure(more):
                more, quotes = self._attempt()
                exchanges += more
        return Run(exchanges, _failure(exchanges), renewals, quotes)

    def _attempt(self) -> tuple[tuple[Exchange, ...], tuple[tuple[bytes, bytes], ...]]:
        self._state = replace(self._state, quote_size=0)
        return self._steps(self.sequence.quote)

    def _steps(self, steps: tuple[Step, ...]) -> tuple[tuple[Exchange, ...], tuple[tuple[bytes, bytes], ...]]:
        exchanges: list[Exchange] = []
        quotes: list[tuple[bytes, bytes]] = []
        for step in steps:
            report_data = self._report() if step.call is MessageKind.GET_QUOTE_EX else b""
            exchanges.append(self._exchange(step))
            if exchanges[-1].error:
                break
            if report_data:
                quotes.append((self._state.quote, report_data))
        return tuple(exchanges), tuple(quotes)

    def _report(self) -> bytes:
        """EREPORT: a fresh one for each quote. Returns its report data."""
        target = TargetInfo.parse(self._state.target_info)
        report_data = self._random_bytes(REPORT_DATA_SIZE)
        report = self.enclave.create_report(target, report_data)
        self._state = replace(self._state, report=report, nonce=self._random_bytes(NONCE_SIZE))
        return report_data

    def _exchange(self, step: Step) -> Exchange:
        frame = wire.frame(step.body(self._state))
        started = self._clock()
        try:
            body = self._transact(frame, read_timer=step.read_timer)
        except OSError as error:
            return Exchange(step.call, self._clock() - started, None, error.strerror or str(error) or repr(error))
        except ClientGivesUpError as error:
            return Exchange(step.call, self._clock() - started, None, str(error))
        seconds = self._clock() - started
        code: int | None = None
        try:
            answer = answer_to(step.call, body)
            code = integer(answer, 1)
            if code == AesmErrorCode.SUCCESS:
                self._state = step.learn(self._state, answer)
        except ClientGivesUpError as error:
            return Exchange(step.call, seconds, code, str(error))
        return Exchange(step.call, seconds, code, f"error code {code}" if code else "")

    def _transact(self, frame: bytes, *, read_timer: bool) -> bytes:
        timers = self.sequence.timers
        with self._connect() as connection:
            connection.settimeout(self._bounded(timers.write))
            if self.sequence.write is Write.AT_ONCE:
                connection.sendall(frame)
            else:
                connection.sendall(frame[: wire.HEADER_SIZE])
                connection.sendall(frame[wire.HEADER_SIZE :])
            connection.settimeout(self._bounded(timers.read if read_timer else None))
            once = self.sequence.read is Read.ONCE
            size = int.from_bytes(_receive(connection, wire.HEADER_SIZE, once=once), "little")
            return _receive(connection, size, once=once)

    def _connect(self) -> socket.socket:
        match self.sequence.address:
            case Address.ABSTRACT_FIRST:
                try:
                    return self._connect_to(self._abstract_name)
                except ConnectionRefusedError:
                    return self._connect_to(str(self._path))
            case Address.FILE_IF_IT_EXISTS if not self._path.exists():
                return self._connect_to(self._abstract_name)
            case _:
                return self._connect_to(str(self._path))

    def _connect_to(self, address: str | bytes) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self.sequence.timers.connect is None:
                # connect() of a unix socket waits while the backlog is full, as long as it may wait to send.
                seconds = struct.pack("@ll", int(self._longest_wait), 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
            else:
                connection.settimeout(self._bounded(self.sequence.timers.connect))
            connection.connect(address)
        except OSError as error:
            connection.close()
            if error.errno == errno.EAGAIN:
                raise OSError(error.errno, "the backlog is full") from error
            raise
        return connection

    def _bounded(self, seconds: float | None) -> float:
        return self._longest_wait if seconds is None else min(seconds, self._longest_wait)


def answer_to(call: MessageKind, body: bytes) -> Fields:
    """The sub-message of an answer, read as strictly as any client does.

    Raises:
        ClientGivesUpError: it is not the answer to this call, or has no error code.
    """
    try:
        response = wire.fields(body)
        if set(response) != {call.value}:
            raise ClientGivesUpError(f"AESM service returned wrong message: fields {sorted(response)}")
        sub_message = response[call.value]
        if not isinstance(sub_message, bytes):
            raise ClientGivesUpError("the answer is a number")
        answer = wire.fields(sub_message)
    except wire.NotProtobufError as error:
        raise ClientGivesUpError(f"not protobuf: {error}") from error
    if not isinstance(answer.get(1), int):
        raise ClientGivesUpError("missing required fields: errorCode")
    return answer


def _failure(exchanges: tuple[Exchange, ...]) -> str:
    last = exchanges[-1] if exchanges else None
    return f"{last.call.call}: {last.error}" if last and last.error else ""


def _receive(connection: socket.socket, size: int, *, once: bool) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        received += chunk
        if not chunk or (once and len(received) < size):
            raise ClientGivesUpError(f"{len(received)} of {size} bytes, then {'a short read' if chunk else 'the end'}")
    return bytes(received)
