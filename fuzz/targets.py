"""Both targets of the fuzzer: the AESM session in this process, and the socket of a live helper.

The session is held to rules that need no second implementation: one event for each input, and one answer of one frame,
in the field of its request, and over the report that was sent. The helper is held to what the session does.
"""

from __future__ import annotations

import contextlib
import socket
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from confcom.aesm import messages_pb2
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import GetQuoteExRequest, MessageKind, Request, Response
from confcom.aesm.request_checks import Need, NeedQuote, plan
from confcom.aesm.session import HEADER_SIZE, ServerSession
from confcom.quote_helper.quoting.service import call_of
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.quote import REPORT_BODY
from confcom.sgx.report import REPORT_BODY_SIZE
from confcom.simulation.platform import SimulatedPlatform
from fuzz.inputs import Ending, Generator, Input
from testkit.helper_process import RunningHelper, running_helper

BATCH: Final = 64
"""Number of simultaneous inputs to the socket: enough for answers to be mixed up, if that is possible."""
SEND_SECONDS: Final = 1.0
"""Time limit for sending: the helper reads nothing after a request, so more bytes fill the socket."""
ANSWER_SECONDS: Final = 30.0
"""Time limit for the end of a connection: longer than any deadline of the helper."""
MAX_SHOWN: Final = 4_000
"""Number of an input's characters that are printed."""
Result = tuple[str, str]
"""Outcome of an input, and the fault in this outcome, if any."""


class SessionTarget:
    """A session and its rules with a simulated provider, without a socket."""

    def __init__(
        self,
        seed: int,
        provider: SimulatedQuoteProvider | None = None,
        rejected: AesmErrorCode = AesmErrorCode.INVALID_REPORT,
    ) -> None:
        platform = SimulatedPlatform.create(bytes(32), datetime(2026, 1, 1, tzinfo=UTC))  # its keys protect nothing
        self._provider = provider or SimulatedQuoteProvider(platform)
        self._rejected = rejected
        self.inputs = Generator(self._provider.identity().target_info, seed)
        self.request: Request | None = None
        """Request of the last input."""

    def run(self, sent: Input) -> Result:
        session, answer, requests, refused = ServerSession(), b"", 0, False
        self.request = None
        try:
            for piece in sent.pieces:
                request = session.receive(piece) if piece else None
                if request is not None:
                    requests, self.request = requests + 1, request
                    answer += session.respond(self._respond(request))
            if sent.sends_eof:
                session.receive(b"")
        except EOFError:
            pass
        except ProtocolError:
            refused = True
        except Exception:  # noqa: BLE001 # whatever it is, it is what is looked for
            return "an exception", traceback.format_exc()
        if requests + refused != any(sent.pieces):
            return "another event", f"{requests} requests of one connection, {refused=}"
        return judge(answer, self.request)

    def _respond(self, request: Request) -> Response:
        need = plan(request)
        if not isinstance(need, Need):
            return need
        try:
            return need.answer(call_of(need, self._provider)())
        except QuoteProviderError as error:
            if isinstance(need, NeedQuote):
                return need.reject_report(self._rejected, self._provider.quote_size())
            raise ValueError(f"{request} is refused with {error.code}") from error


def judge(answer: bytes, request: Request | None) -> Result:
    """Outcome of a connection with this request or none, and the fault in this outcome."""
    if not answer:
        return "closed", "no answer to a request" if request else ""
    if request is None:
        return "answered", f"an answer to no request: {answer[:40].hex()}"
    body = answer[HEADER_SIZE:]
    if answer[:HEADER_SIZE] != len(body).to_bytes(HEADER_SIZE, "little"):
        return "no frame", f"an answer is not one frame: {answer[:40].hex()}"
    try:
        ((field, got),) = messages_pb2.Response.FromString(body).ListFields()
    except (DecodeError, ValueError):
        return "no answer", f"an answer cannot be read: {body[:40].hex()}"
    fields = {one.number: value for one, value in got.ListFields()}
    code, kind = fields.get(1, 0), MessageKind(field.number)
    wrong = ""
    if kind is not request.kind:
        wrong = f"an answer is in another field: {kind.call}, not {request.kind.call}"
    elif isinstance(request, GetQuoteExRequest) and code == AesmErrorCode.SUCCESS:
        quote = fields.get(2, b"")
        if len(quote) != request.buf_size or quote[REPORT_BODY] != request.report[:REPORT_BODY_SIZE]:
            wrong = f"a quote is not over the report that was sent, or not as long as asked: {quote[:60].hex()}"
    return f"answered {kind.call} {AesmErrorCode(code).name}", wrong


class LiveTarget:
    """The socket of a real helper, and a session that must behave the same."""

    def __init__(self, helper: RunningHelper, seed: int) -> None:
        self._path = str(helper.socket)
        # As after every start, the helper still accepts reports for an earlier quoting enclave.
        rejected = AesmErrorCode.ATT_KEY_NOT_INITIALIZED
        self._session = SessionTarget(seed, SimulatedQuoteProvider(open_platform(helper.state_dir)), rejected)
        self.inputs = self._session.inputs

    def run(self, inputs: Sequence[Input]) -> Iterator[Result]:
        clients = [self._send(sent) for sent in inputs]
        for sent, client in zip(inputs, clients, strict=True):
            answer = bytearray()
            with client:
                try:
                    while sent.ending is not Ending.CLOSE and (chunk := client.recv(128 * 1024)):
                        answer += chunk
                except ConnectionResetError:  # behind the answer, if the helper did not read everything
                    pass
                except TimeoutError:
                    yield "no end", f"the connection does not end within {ANSWER_SECONDS:g} s"
                    continue
            yield ("left", "") if sent.ending is Ending.CLOSE else self._compared(sent, bytes(answer))

    def _compared(self, sent: Input, answer: bytes) -> Result:
        due, _ = self._session.run(sent)
        outcome, wrong = judge(answer, self._session.request)
        if not wrong and outcome != due:
            wrong = f"another outcome than the session's: {outcome}, not {due}"
        return outcome, wrong

    def _send(self, sent: Input) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SEND_SECONDS)
        client.connect(self._path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):  # its answer is there to be read
            for piece in sent.pieces:
                client.sendall(piece)
            if sent.ending is not Ending.CLOSE and sent.sends_eof:
                client.shutdown(socket.SHUT_WR)
        client.settimeout(ANSWER_SECONDS)
        if sent.ending is Ending.CLOSE:
            client.close()
        return client


@dataclass(slots=True)
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)

    def count(self, result: Result, index: int, sent: Input) -> None:
        outcome, wrong = result
        self.outcomes[outcome] += 1
        if wrong:
            pieces = "+".join(piece.hex() for piece in sent.pieces)[:MAX_SHOWN]
            kind = wrong.splitlines()[-1].partition(":")[0]
            self.wrong.setdefault(kind, f"{wrong}\n  input {index}: {pieces} {sent.ending.name}")


def fuzz_session(seed: int, indexes: range) -> Tally:
    target, tally = SessionTarget(seed), Tally()
    for index in indexes:
        sent = target.inputs.make(index)
        tally.count(target.run(sent), index, sent)
    return tally


def fuzz_helper(seed: int, indexes: range) -> Tally:
    tally = Tally()
    with running_helper() as helper:
        target = LiveTarget(helper, seed)
        open_files = _open_files(helper)
        for start in range(indexes.start, indexes.stop, BATCH):
            batch = range(start, min(start + BATCH, indexes.stop))
            inputs = [target.inputs.make(index) for index in batch]
            for index, sent, result in zip(batch, inputs, target.run(inputs), strict=True):
                tally.count(result, index, sent)
        helper.wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
        if errors := [line for line in helper.lines() if line["level"] == "error"]:
            tally.wrong["log"] = f"the helper logs an error: {errors[0]}"
        if (now := _open_files(helper)) > open_files:
            tally.wrong["descriptors"] = f"descriptors are lost: {now} are open, {open_files} were"
    return tally


def _open_files(helper: RunningHelper) -> int:
    return len(list(Path(f"/proc/{helper.process.pid}/fd").iterdir()))
