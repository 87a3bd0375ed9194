"""Replays AESM clients, for example with `ReplayedClient(GRAMINE, path).run()`.

`clients.json` holds conversations that were recorded, or derived from the clients' sources. Each call has the
request's fields and the fields that the answer must have, keyed by number. A field's text is hexadecimal, or
`zeros:N`, or a `$name` with a known value; in an answer it may be a `?name`, which gets its value from the answer.
"""

from __future__ import annotations

import errno
import hashlib
import json
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import NONCE_SIZE, REPORT_DATA_SIZE, REPORT_SIZE, Report, TargetInfo
from confcom.simulation.enclave import ReportChecker, ReportRejectedError, SimulatedEnclave
from testkit.replay import wire

KEY = ECDSA_P256_KEY_ID.encode()
"""The key id that is compiled into Intel's ql wrapper and Gramine."""

SIZES = {"key": 256, "target_info": 512, "pub_key_id": 32, "qe_report_info": 960}
QUOTE_HEAD_SIZE = 436
"""Size of sgx_quote_t without signature data; the last four of these bytes hold the signature data's size."""
REPORT_BODY = slice(48, 432)
QE_REPORT_DATA = slice(564 + 320, 564 + 320 + 32)
"""Position of the attestation key's id in a quote; the QE's report has this id as report data."""
NONCE_AND_TARGET = 528
LONGEST_WAIT = 60.0
"""Seconds after which even a client without its own time limit stops waiting."""

Fields = Mapping[str, Any]
"""Values of a message's fields, or the texts that stand for values, keyed by field number."""


class ClientGivesUpError(Exception):
    """A client cannot use an answer; the error's text is the client's complaint."""


@dataclass(frozen=True, slots=True)
class Step:
    call: MessageKind
    request: Fields
    answer: Fields
    read_timer: bool = True
    """Whether the client limits its wait for the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSequence:
    name: str
    version: str
    """The client's release or public commit whose source was read or whose conversation was recorded."""
    start: tuple[Step, ...]
    """Steps that each client process makes only once."""
    quote: tuple[Step, ...]
    renew: tuple[Step, ...]
    """Steps that follow error 42, before the client repeats the `quote` steps."""
    stale_attempts: int
    """Most renewals for one quote. Gramine has its own limit. Other clients leave renewals to the application, so
    their limit is that of an application that follows Intel's reference."""
    write_at_once: bool
    read_once: bool
    """Whether the client reads header and body with one read() each; a short read crashes Intel's client."""
    connect_seconds: float | None
    write_seconds: float | None
    read_seconds: float | None

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> ClientSequence:
        kinds = {kind.call: kind for kind in MessageKind}
        steps = {
            name: tuple(Step(**step | {"call": kinds[step["call"]]}) for step in written[name])
            for name in ("start", "quote", "renew")
        }
        return cls(**written | steps)


CLIENTS = tuple(map(ClientSequence.of, json.loads(Path(__file__).with_name("clients.json").read_text())))
INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, INTEL_SDK_RA, GRAMINE, FORTANIX, OASIS, INCLAVARE, ENARX = CLIENTS


@dataclass(frozen=True, slots=True)
class Exchange:
    call: MessageKind
    seconds: float
    """Seconds from the start of connect() to the answer's end."""
    code: int | None
    error: str
    """The client's complaint about the answer; empty if the client has no complaint."""

    @property
    def stale(self) -> bool:
        return self.code == AesmErrorCode.ATT_KEY_NOT_INITIALIZED


@dataclass(frozen=True, slots=True)
class Run:
    exchanges: tuple[Exchange, ...]
    renewals: int = 0
    """How often the client repeated the quote steps after error 42."""
    quotes: tuple[tuple[bytes, bytes], ...] = ()
    """Pairs of a quote and its report data."""

    @property
    def failure(self) -> str:
        """The failed call and the reason why the run got no quote; empty if the run got a quote."""
        last = self.exchanges[-1] if self.exchanges else None
        return f"{last.call.call}: {last.error}" if last and last.error else ""


class ReplayedClient:
    """One process of a client. Threads must not share this object."""

    def __init__(
        self,
        sequence: ClientSequence,
        path: Path | str,
        *,
        clock: Callable[[], float] = time.monotonic,
        enclave: SimulatedEnclave | None = None,
    ) -> None:
        self.sequence = sequence
        self.enclave = enclave or SimulatedEnclave.from_name(f"replayed {sequence.name}")
        self._path = str(path)
        self._clock = clock
        self._known: dict[str, Any] = {"key": KEY}

    def run(self) -> Run:
        """Run a whole client process: the calls at its start, and then one attestation."""
        started = self._steps(self.sequence.start)
        if started.failure:
            return started
        run = self.quote()
        return replace(run, exchanges=started.exchanges + run.exchanges)

    def quote(self) -> Run:
        """Make one attestation; repeat the attestation after error 42 as often as this client does."""
        run, renewals = self._steps(self.sequence.quote), 0
        exchanges = run.exchanges
        while run.exchanges[-1].stale and renewals < self.sequence.stale_attempts:
            renewals += 1
            run = self._steps(self.sequence.renew + self.sequence.quote)
            exchanges += run.exchanges
        return Run(exchanges, renewals, run.quotes)

    def _steps(self, steps: tuple[Step, ...]) -> Run:
        exchanges: list[Exchange] = []
        quotes: list[tuple[bytes, bytes]] = []
        for step in steps:
            report_data = self._report() if step.call is MessageKind.GET_QUOTE_EX else b""
            exchanges.append(self._exchange(step))
            if exchanges[-1].error:
                break
            if report_data:
                quotes.append((self._known["quote"], report_data))
        return Run(tuple(exchanges), quotes=tuple(quotes))

    def _report(self) -> bytes:
        """Create a fresh report for each quote, as EREPORT does; return the report data."""
        report_data = secrets.token_bytes(REPORT_DATA_SIZE)
        target = TargetInfo.parse(self._known["target_info"])
        self._known["report"] = self.enclave.create_report(target, report_data).encode()
        nonce_and_target = secrets.token_bytes(NONCE_SIZE) + self.enclave.target_info().encode()
        self._known["qe_report_info"] = nonce_and_target + bytes(REPORT_SIZE)
        return report_data

    def _exchange(self, step: Step) -> Exchange:
        frame = wire.frame(encode({step.call: step.request}, self._known))
        started, code = self._clock(), None
        try:
            body = self._transact(frame, self.sequence.read_seconds if step.read_timer else None)
            answers = wire.nested_fields(body)
            need(list(answers) == [step.call], f"the wrong message: fields {list(answers)}")
            answer = answers[step.call]
            need(isinstance(answer.get(1), int), "missing required fields: errorCode")
            if code := answer.pop(1):
                raise ClientGivesUpError(f"error code {code}")
            sizes = SIZES | {"quote": value(step.request.get("4", 0), self._known)}
            learnt = learn(step.answer, answer, self._known, sizes)
            if step.call is MessageKind.GET_QUOTE_EX:
                learnt = self._checked(learnt)
            self._known |= learnt
        except OSError as error:
            return Exchange(step.call, self._clock() - started, code, error.strerror or str(error) or repr(error))
        except (ClientGivesUpError, wire.NotProtobufError) as error:
            return Exchange(step.call, self._clock() - started, code, str(error))
        return Exchange(step.call, self._clock() - started, code, "")

    def _checked(self, learnt: Mapping[str, Any]) -> dict[str, Any]:
        """Return the quote without padding. Real clients check only sizes; this method checks all parts."""
        known, padded = self._known, learnt["quote"]
        size = QUOTE_HEAD_SIZE + int.from_bytes(padded[QUOTE_HEAD_SIZE - 4 : QUOTE_HEAD_SIZE], "little")
        quote = padded[:size]
        need(size == known.get("quote_size", size) and not any(padded[size:]), "not exactly a quote and zeros")
        need(quote[REPORT_BODY] == known["report"][:384], "a quote over another report")
        need(quote[QE_REPORT_DATA] == known.get("pub_key_id", quote[QE_REPORT_DATA]), "a quote by another key")
        if "qe_report_info" in learnt:
            self._check_qe_report(learnt["qe_report_info"], quote)
        return {"quote": quote}

    def _check_qe_report(self, info: bytes, quote: bytes) -> None:
        """Check MAC, nonce, quote and the target info's QE, as Intel's ukey_exchange enclave does."""
        sent, target = self._known["qe_report_info"], TargetInfo.parse(self._known["target_info"])
        need(info[:NONCE_AND_TARGET] == sent[:NONCE_AND_TARGET], "qe_report_info for another nonce or enclave")
        report = Report.parse(info[NONCE_AND_TARGET:])
        try:
            ReportChecker.of(self.enclave.target_info()).check(report)
        except ReportRejectedError as error:
            raise ClientGivesUpError("the QE's report is not for this enclave") from error
        body = report.body
        same = (body.mr_enclave, body.flags, body.xfrm) == (target.mr_enclave, target.flags, target.xfrm)
        need(same, "the QE's report is by another enclave than the target info named")
        vouched = hashlib.sha256(sent[:NONCE_SIZE] + quote).digest() + bytes(32)
        need(body.report_data == vouched, "the QE's report is about another nonce or quote")

    def _transact(self, frame: bytes, read_seconds: float | None) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            self._connect(connection)
            connection.settimeout(bounded(self.sequence.write_seconds))
            if self.sequence.write_at_once:
                connection.sendall(frame)
            else:
                connection.sendall(frame[: wire.HEADER_SIZE])
                connection.sendall(frame[wire.HEADER_SIZE :])
            connection.settimeout(bounded(read_seconds))
            size = int.from_bytes(self._receive(connection, wire.HEADER_SIZE), "little")
            return self._receive(connection, size)

    def _connect(self, connection: socket.socket) -> None:
        if self.sequence.connect_seconds is None:
            # If the backlog is full, connect() of a unix socket waits as long as the send timeout allows.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(LONGEST_WAIT), 0))
        else:
            connection.settimeout(bounded(self.sequence.connect_seconds))
        try:
            connection.connect(self._path)
        except BlockingIOError as error:
            raise OSError(errno.EAGAIN, "the backlog is full") from error

    def _receive(self, connection: socket.socket, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = connection.recv(size - len(received))
            received += chunk
            if not chunk or (self.sequence.read_once and len(received) < size):
                raise ClientGivesUpError(f"{len(received)} of {size} bytes, then a short read or the end")
        return bytes(received)


def value(written: Any, known: Mapping[str, Any]) -> Any:
    match written:
        case list():
            return b"".join(value(part, known) for part in written)
        case str() if written.startswith("$"):
            return known[written[1:]]
        case str() if written.startswith("zeros:"):
            return bytes(int(written[6:]))
        case str():
            return bytes.fromhex(written)
    return written


def encode(calls: Mapping[int | str, Any], known: Mapping[str, Any] = MappingProxyType({"key": KEY})) -> bytes:
    def content(fields: Any) -> bytes:
        if isinstance(fields, str):
            return bytes.fromhex(fields)
        return b"".join(wire.field(int(number), value(written, known)) for number, written in fields.items())

    return b"".join(wire.data(int(call), content(fields)) for call, fields in calls.items())


def learn(expected: Fields, answer: Mapping[int, Any], known: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    """Compare an answer with the expected answer; return the values that the answer gives to `?names`."""
    need(answer.keys() == {int(number) for number in expected}, f"fields {sorted(answer)}, not {list(expected)}")
    learnt = {}
    for number, written in expected.items():
        found = answer[int(number)]
        if isinstance(written, str) and written.startswith("?"):
            name = written[1:]
            fits = found > 0 if isinstance(found, int) else len(found) == sizes.get(name, 0)
            need(fits, f"{name} of another size: {found!r}")
            learnt[name] = found
        else:
            need(found == value(written, known), f"field {number} is {found!r}, not {written}")
    return learnt


def need(condition: object, complaint: str) -> None:
    if not condition:
        raise ClientGivesUpError(complaint)


def bounded(seconds: float | None) -> float:
    return LONGEST_WAIT if seconds is None else min(seconds, LONGEST_WAIT)
