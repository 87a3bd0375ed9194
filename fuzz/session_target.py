"""The session, the rules and the service with a provider, in this process: one connection without a socket.

The helper's own order of calls: bytes to the session, its request to the service, the service's answer to the session.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import uvloop

from confcom.aesm.messages import Response
from confcom.aesm.session import PeerClosed, ProtocolViolation, RequestReceived, ServerSession
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService, Ticket
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_provider.base import QuoteProvider
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.simulation.platform import SimulatedPlatform
from fuzz.corpus import Corpus, make_corpus
from fuzz.inputs import Ending, Input
from fuzz.model import End, Rules, expect
from fuzz.oracle import Finding, Outcome, judge

SEED: Final = bytes(32)
MADE_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The simulated platform is the same in every campaign; its keys protect nothing."""

MAX_TURNS: Final = 10_000
"""Turns of the event loop within which everything is answered: a few are needed."""

EVENTS: Final[Mapping[type, frozenset[End]]] = {
    ProtocolViolation: frozenset({End.CUT, End.BAD_LENGTH, End.NO_MESSAGE, End.UNKNOWN}),
    PeerClosed: frozenset({End.SILENT}),
    RequestReceived: frozenset({End.ANSWERED}),
}
"""What the session must say, for each way to end."""


@dataclass(slots=True, eq=False)
class _Connection:
    """One input on its way; the service delivers to it."""

    sent: Input
    session: ServerSession
    events: list[RequestReceived | ProtocolViolation | PeerClosed] = field(default_factory=list)
    ticket: Ticket[_Connection] | None = None
    answer: bytes = b""
    left: bool = False
    error: Exception | None = None

    def deliver(self, response: Response) -> None:
        """Take the answer, which comes once."""
        try:
            self.answer += self.session.respond(response)
        except Exception as error:  # noqa: BLE001 # whatever it is, it is what is looked for
            self.error = error
        self.ticket = None


class SessionTarget:
    """Runs inputs in this process, many beside each other, as many clients of one peer would.

    Args:
        make_session: makes a connection's session: `ServerSession`, or one with a planted bug.
        wrap_provider: puts something around the simulated provider.
    """

    def __init__(
        self,
        *,
        make_session: Callable[[], ServerSession] = ServerSession,
        wrap_provider: Callable[[QuoteProvider], QuoteProvider] = lambda provider: provider,
    ) -> None:
        self._make_session = make_session
        provider = SimulatedQuoteProvider(SimulatedPlatform.create(SEED, MADE_AT))
        self._stale = StaleTargetPolicy(0, time.monotonic)
        self.corpus: Corpus = make_corpus(provider.identity().target_info)
        self.rules = Rules(
            frozenset(self.corpus.reports), provider.quote_size(), self._stale.code_for_rejected_report()
        )
        self._provider = wrap_provider(provider)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)  # the helper's own
        self.pid: Final = os.getpid()

    def __enter__(self) -> Self:
        self._service = self._runner.run(self._make_service())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._service.close()
        self._runner.close()

    def run(self, inputs: Sequence[Input]) -> list[Outcome | Finding]:
        """Run inputs, and judge each."""
        return self._runner.run(self._run(inputs))

    async def _make_service(self) -> QuoteService[_Connection]:
        limits = HelperLimits()
        service: QuoteService[_Connection] = QuoteService(
            stale=self._stale,
            failure_log=LogLimiter(limits.repeated_log_seconds, time.monotonic),
            limits=limits,
            clock=time.monotonic,
        )
        service.deliver = _Connection.deliver
        service.provide(self._provider)
        return service

    async def _run(self, inputs: Sequence[Input]) -> list[Outcome | Finding]:
        connections = [_Connection(sent, self._make_session()) for sent in inputs]
        for connection in connections:
            try:
                self._feed(connection)
            except Exception as error:  # noqa: BLE001 # whatever it is, it is what is looked for
                connection.error = error
        turns = 0
        while turns < MAX_TURNS and any(connection.ticket for connection in connections):
            turns += 1
            await asyncio.sleep(0)
        return [self._judge(connection) for connection in connections]

    def _feed(self, connection: _Connection) -> None:
        sent, session = connection.sent, connection.session
        for piece in sent.pieces:
            event = session.receive(piece)
            if event is not None:
                connection.events.append(event)
                if isinstance(event, RequestReceived):
                    self._ask(connection, event)
        if sent.sends_eof:
            end = session.receive_eof()
            if end is not None:
                connection.events.append(end)

    def _ask(self, connection: _Connection, event: RequestReceived) -> None:
        answer = self._service.respond(event.request, "fuzzer", connection)
        if not isinstance(answer, Ticket):
            connection.deliver(answer)
        elif connection.sent.ending is Ending.CLOSE:
            self._service.abandon(answer)
            connection.left = True
        else:
            connection.ticket = answer

    def _judge(self, connection: _Connection) -> Outcome | Finding:
        if connection.error is not None:
            error = connection.error
            return Finding(f"an exception: {type(error).__name__}", "".join(traceback.format_exception(error)))
        if connection.ticket is not None:
            self._service.abandon(connection.ticket)
            return Finding("no answer ever", f"within {MAX_TURNS} turns of the event loop")
        data = connection.sent.data
        expected = expect(data, self.rules)
        if len(connection.events) != 1:
            return Finding("not one event", f"{len(connection.events)} events where the end is: {expected.end}")
        (event,) = connection.events
        if expected.end not in EVENTS[type(event)]:
            return Finding("another event", f"{type(event).__name__} where the end is: {expected.end}")
        return judge(data, None if connection.left else connection.answer, self.rules)
