"""Both targets of the fuzzer: the AESM session in this process, and the socket of a live helper."""

from __future__ import annotations

import contextlib
import socket
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.aesm.request_checks import Need, NeedQuote, plan
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived, ServerSession
from confcom.client import AesmClient
from confcom.quote_helper.quoting.service import answer_with, call_of
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.simulation.platform import SimulatedPlatform
from fuzz.inputs import Ending, Generator, Input
from fuzz.oracle import SILENT, Rules, judge, read
from testkit.helper_process import RunningHelper, running_helper

BATCH: Final = 64
"""Inputs to the socket at the same time: enough for answers to be mixed up, if they can be."""
ANSWER_SECONDS: Final = 30.0
"""For the end of a connection: longer than any deadline of the helper."""
MAX_SHOWN: Final = 4_000
"""Characters of an input that are printed."""


class SessionTarget:
    """Session and rules with a simulated provider, without a socket."""

    def __init__(self, seed: int) -> None:
        platform = SimulatedPlatform.create(bytes(32), datetime(2026, 1, 1, tzinfo=UTC))  # its keys protect nothing
        self._provider = SimulatedQuoteProvider(platform)
        self.inputs = Generator(self._provider.identity().target_info, seed)
        self.rules = Rules(self.inputs.reports, self._provider.quote_size(), AesmErrorCode.INVALID_REPORT)

    def run(self, sent: Input) -> tuple[str, str]:
        """Send one input; returns what came of it, and what is wrong with it."""
        session, answer = ServerSession(), b""
        events: list[RequestReceived | ProtocolViolation | PeerClosed | None] = []
        try:
            for piece in sent.pieces:
                events.append(event := session.receive(piece))
                if isinstance(event, RequestReceived):
                    answer += session.respond(self._respond(event.request))
            if sent.sends_eof:
                events.append(session.receive_eof())
        except Exception:  # noqa: BLE001 # whatever it is, it is what is looked for
            return "an exception", traceback.format_exc()
        due = read(sent.data)
        kind = PeerClosed if due == SILENT else ProtocolViolation if isinstance(due, str) else RequestReceived
        if [type(event) for event in events if event is not None] != [kind]:
            return "another event", f"another event: {events} where {kind.__name__} is due"
        return judge(sent.data, answer, self.rules)

    def _respond(self, request: Request) -> Response:
        need = plan(request)
        if not isinstance(need, Need):
            return need
        try:
            return answer_with(need, call_of(need, self._provider)())
        except QuoteProviderError as error:
            if isinstance(need, NeedQuote):
                return need.reject_report(error.code, self.rules.quote_size)
            raise


class LiveTarget:
    """The socket of a real helper."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = str(path)
        client = AesmClient(path)
        self.inputs = Generator(client.init_quote().target_info, seed)
        # The helper's window for reports of an earlier quoting enclave is open, as after every start.
        self.rules = Rules(self.inputs.reports, client.quote_size(), AesmErrorCode.ATT_KEY_NOT_INITIALIZED)

    def run(self, inputs: Sequence[Input]) -> Iterator[tuple[str, str]]:
        """Send all, then read all."""
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
            yield judge(sent.data, None if sent.ending is Ending.CLOSE else bytes(answer), self.rules)

    def _send(self, sent: Input) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(ANSWER_SECONDS)
        client.connect(self._path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its answer is still there to be read
            for piece in sent.pieces:
                client.sendall(piece)
            if sent.ending is not Ending.CLOSE and sent.sends_eof:
                client.shutdown(socket.SHUT_WR)
        if sent.ending is Ending.CLOSE:
            client.close()
        return client


class Tally:
    """What came of the inputs, and everything wrong: the first input of each kind."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}

    def count(self, result: tuple[str, str], index: int, sent: Input) -> None:
        """Count one input."""
        outcome, wrong = result
        self.outcomes[outcome] += 1
        if wrong:
            pieces = "+".join(piece.hex() for piece in sent.pieces)[:MAX_SHOWN]
            kind = wrong.splitlines()[-1].partition(":")[0]
            self.wrong.setdefault(kind, f"{wrong}\n  input {index}: {pieces} {sent.ending.name}")


def fuzz_session(seed: int, indexes: range) -> Tally:
    """Run inputs in this process."""
    target, tally = SessionTarget(seed), Tally()
    for index in indexes:
        sent = target.inputs.make(index)
        tally.count(target.run(sent), index, sent)
    return tally


def fuzz_helper(seed: int, indexes: range) -> Tally:
    """Run inputs against the socket of a real helper."""
    tally = Tally()
    with running_helper("--log-format", "json") as helper:
        target = LiveTarget(helper.socket, seed)
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
