"""The socket of a real helper process, with a well-behaved client beside the fuzzer."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.client import AesmClient
from confcom.errors import ConfcomError
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import SimulatedEnclave
from fuzz.campaign import Plan, Tally, run_campaign
from fuzz.corpus import Corpus, make_corpus
from fuzz.inputs import Ending, Input
from fuzz.model import Rules
from fuzz.oracle import QUOTED_REPORT, Finding, Outcome, judge
from testkit.helper_process import RunningHelper, running_helper

ANSWER_SECONDS: Final = 30.0
"""For an answer, or the end of the connection: longer than any deadline of the helper but one for hung providers."""

RECEIVE_BYTES: Final = 128 * 1024

PAUSE_SECONDS: Final = 0.01
"""Between the well-behaved client's rounds: it is to be served beside the fuzzer, not to keep it from its work."""

LIFE_LINES: Final = 20
"""Lines that the helper logs about itself, from its start on."""

LINES_PER_MINUTE: Final = 64
"""60 quotes of a peer one by one, the count of the others, one malformed request, one count of the others."""


class LiveTarget:
    """Runs inputs against a socket, several connections at a time.

    Args:
        path: the socket.
        pid: the process that serves it.
        corpus: made for its quoting enclave.
        rules: of that.
        answer_seconds: how long an end is waited for.
    """

    def __init__(
        self, path: Path, pid: int, corpus: Corpus, rules: Rules, *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._path = str(path)
        self.pid = pid
        self.corpus = corpus
        self.rules = rules
        self._answer_seconds = answer_seconds

    def run(self, inputs: Sequence[Input]) -> list[Outcome | Finding]:
        """Send all, then read all, and judge each."""
        clients = [self._send(sent) for sent in inputs]
        return [self._read(sent, client) for sent, client in zip(inputs, clients, strict=True)]

    def _send(self, sent: Input) -> socket.socket | OSError:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(self._answer_seconds)
        try:
            client.connect(self._path)
        except OSError as error:
            client.close()
            return error
        # Whoever is closed in the middle of what it sends still has its answer to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in sent.pieces:
                client.sendall(piece)
            if sent.ending is not Ending.CLOSE and sent.sends_eof:
                client.shutdown(socket.SHUT_WR)
        if sent.ending is Ending.CLOSE:
            client.close()
        return client

    def _read(self, sent: Input, client: socket.socket | OSError) -> Outcome | Finding:
        if isinstance(client, OSError):
            return Finding("cannot connect", repr(client))
        if sent.ending is Ending.CLOSE:
            return judge(sent.data, None, self.rules)
        answer = bytearray()
        with client:
            # What the helper did not read is told by a reset, behind its answer.
            try:
                while chunk := client.recv(RECEIVE_BYTES):
                    answer += chunk
            except ConnectionResetError:
                pass
            except TimeoutError:
                return Finding("the connection does not end", f"within {self._answer_seconds:g} s")
        return judge(sent.data, bytes(answer), self.rules)


@dataclass(slots=True)
class Bystander:
    """A client that does everything right, again and again."""

    path: Path
    rounds: int = 0
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Run it in a thread meanwhile."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), name="well-behaved client")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        client, enclave = AesmClient(self.path), SimulatedEnclave.from_name("well-behaved")
        while not stop.wait(PAUSE_SECONDS):
            try:
                report = enclave.create_report(client.init_quote().target_info, secrets.token_bytes(REPORT_DATA_SIZE))
                size = client.quote_size()
                quote = client.get_quote(report).quote
            except ConfcomError as error:
                self.failures.append(str(error))
            else:
                if len(quote) != size or quote[QUOTED_REPORT] != report.body.encode():
                    self.failures.append("the quote is not over the report")
            self.rounds += 1


def run_live_campaign(plan: Plan) -> Tally:
    """Fuzz a real helper's socket."""
    with running_helper("--log-format", "json") as helper:
        client = AesmClient(helper.socket)
        corpus = make_corpus(client.init_quote().target_info)
        # The helper's window for reports of an earlier quoting enclave is open, as after every start.
        rules = Rules(frozenset(corpus.reports), client.quote_size(), AesmErrorCode.ATT_KEY_NOT_INITIALIZED)
        target = LiveTarget(helper.socket, helper.process.pid, corpus, rules)
        bystander, descriptors = Bystander(helper.socket), _descriptors(helper)
        with bystander.beside():
            tally = run_campaign("socket of a real helper", plan, target)
        _look_at_helper(tally, helper, bystander, descriptors)
    return tally


def _descriptors(helper: RunningHelper) -> int:
    return len(list(Path(f"/proc/{helper.process.pid}/fd").iterdir()))


def _look_at_helper(tally: Tally, helper: RunningHelper, bystander: Bystander, descriptors: int) -> None:
    """What must hold of the process when all clients have gone."""
    helper.wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    lines = helper.log.read_text().splitlines()
    bound = LIFE_LINES + LINES_PER_MINUTE * (1 + int(tally.seconds // 60))
    failed = helper.metric('confcom_quote_helper_connections_dropped_total{reason="failed"}')
    tally.notes |= {
        "log lines": len(lines),
        "log lines at most": bound,
        "well-behaved rounds": bystander.rounds,
        "well-behaved failures": len(bystander.failures),
        "malformed, as the helper counts": int(
            helper.metric('confcom_quote_helper_connections_dropped_total{reason="malformed"}')
        ),
    }
    if len(lines) > bound:
        tally.found("the log is not bounded", f"{len(lines)} lines in {tally.seconds:.0f} s")
    if errors := [line for line in lines if json.loads(line)["level"] == "error"]:
        tally.found("the helper logs an error", errors[0])
    if failed:
        tally.found("answers could not be encoded", f"{failed:g}")
    if bystander.failures or not bystander.rounds:
        tally.found("the well-behaved client fails", "; ".join(bystander.failures[:3]) or "it got no turn")
    if (now := _descriptors(helper)) > descriptors:
        tally.found("descriptors are lost", f"{now} are open, {descriptors} were")
