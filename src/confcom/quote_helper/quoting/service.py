"""From a request to its answer: what needs no provider at once, the rest in fair turns, whatever the provider does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from confcom.aesm.answers import Need, NeedIdentity, NeedQuote, NeedQuoteSize, plan
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.daemon.deadlines import Deadlines
from confcom.daemon.fair_queue import FairQueue
from confcom.daemon.logs import LogLimiter
from confcom.daemon.worker import WorkerPool
from confcom.quote_helper.limits import QUOTE_BATCH, HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError

_logger = logging.getLogger(__name__)


class Asker(Protocol):
    """Whoever waits for an answer."""

    def deliver(self, response: Response) -> None:
        """Take the answer. It is never an exception, and comes once."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that waits for the provider, or for its call to come back."""

    owner: Hashable
    """Whose turn it takes."""
    need: Need
    asker: Asker


class QuoteService:
    """Answers requests. Num, IDs and Select never wait, whatever state the provider is in.

    The others wait for their peer's turn, and for a provider while there is none (it is being prepared, or was lost).
    An inline provider is called in the event loop, for as long as one turn may last; then others have the loop. A
    provider that blocks is called in the worker pool, as many calls at once as it bears.

    Args:
        workers: where a blocking provider's calls run.
        stale: which code a report gets that the provider does not accept.
        failure_log: bounds the lines about a provider that fails in ways it should not.
        limits: how long requests wait, and how many calls run at once.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        workers: WorkerPool,
        stale: StaleTargetPolicy,
        failure_log: LogLimiter,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._workers = workers
        self._stale = stale
        self._failure_log = failure_log
        self._refusal_log = LogLimiter(limits.refusal_log_seconds, clock)
        self._limits = limits
        self._clock = clock
        self._provider: QuoteProvider | None = None
        self._stopping = False
        self._scheduled = False
        self._waiting: FairQueue[Ticket] = FairQueue()
        self._placeless: Deadlines[Ticket] = Deadlines(limits.place_seconds, clock, self._found_no_place)
        self._calling: Deadlines[Ticket] = Deadlines(limits.call_seconds, clock, self._never_came_back)
        self._calls: dict[Ticket, None] = {}
        self._places_taken = 0

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    @property
    def calls(self) -> int:
        """How many calls of a blocking provider have not come back, those that nobody waits for any more included."""
        return self._places_taken

    @property
    def prompt(self) -> bool:
        """Whether what waits is served within some turns of the loop, so that its client need not be watched."""
        return self._provider is not None and not self._provider.blocking

    def provide(self, provider: QuoteProvider) -> None:
        """The provider is ready: what waited for it goes on."""
        self._provider = provider
        self._schedule()

    def withdraw(self) -> None:
        """The provider was lost: what needs it waits for its return. Calls that are running may still come back."""
        self._provider = None
        if self._stopping:
            self._refuse_all_waiting()

    def stop(self) -> None:
        """Nothing will be provided any more: what still waits for a provider is refused."""
        self._stopping = True
        if self._provider is None:
            self._refuse_all_waiting()

    def close(self) -> None:
        """Answer nobody any more."""
        self._placeless.close()
        self._calling.close()
        self._calls.clear()
        while self._waiting.take() is not None:
            pass

    def respond(self, request: Request, owner: Hashable, asker: Asker) -> Response | Ticket:
        """The answer, or a ticket if it takes a turn: then the asker is called.

        Args:
            request: what is asked.
            owner: whose turn it takes, equal for all requests of one peer.
            asker: gets the answer if it is not returned.
        """
        planned = plan(request)
        if not isinstance(planned, Need):
            return planned
        if self._stopping and self._provider is None:
            return planned.refuse(AesmErrorCode.SERVICE_UNAVAILABLE)
        ticket = Ticket(owner, planned, asker)
        self._waiting.put(owner, ticket)
        self._placeless.add(ticket)
        self._schedule()
        return ticket

    def refuse_as_busy(self, request: Request) -> Response:
        """Answer a request that was not given to `respond`: as BUSY, if it needs the provider."""
        planned = plan(request)
        return planned.refuse(AesmErrorCode.BUSY) if isinstance(planned, Need) else planned

    def abandon(self, ticket: Ticket) -> None:
        """Its client has gone. A call that is running goes on and keeps its place: the provider is one."""
        self._waiting.discard(ticket.owner, ticket)
        self._placeless.discard(ticket)
        self._calling.discard(ticket)
        self._calls.pop(ticket, None)

    def _schedule(self) -> None:
        if not self._scheduled and self._provider is not None and len(self._waiting):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._take_turns)

    def _take_turns(self) -> None:
        self._scheduled = False
        provider = self._provider
        if provider is None:
            return
        if provider.blocking:
            self._fill_places(provider)
            return
        ends = self._clock() + self._limits.turn_seconds
        while len(self._waiting) and self._clock() < ends:
            self._quote_batch(provider)
        self._schedule()

    def _quote_batch(self, provider: QuoteProvider) -> None:
        # Making quotes and sending them use other parts of the machine: one after the other, each runs warm.
        answers: list[tuple[Asker, Response]] = []
        while len(answers) < QUOTE_BATCH and (ticket := self._waiting.take()) is not None:
            self._placeless.discard(ticket)
            answers.append((ticket.asker, self._complete(ticket.need, provider)))
        for asker, answer in answers:
            asker.deliver(answer)

    def _fill_places(self, provider: QuoteProvider) -> None:
        places = min(provider.max_concurrent_calls, self._limits.provider_threads)
        self._workers.grow_to(places)
        while self._places_taken < places and (ticket := self._waiting.take()) is not None:
            self._placeless.discard(ticket)
            self._calling.add(ticket)
            self._calls[ticket] = None
            self._places_taken += 1
            self._start_call(ticket, provider)

    def _start_call(self, ticket: Ticket, provider: QuoteProvider) -> None:
        def came_back(call: asyncio.Future[Response]) -> None:
            self._places_taken -= 1
            if ticket in self._calls:
                self.abandon(ticket)
                ticket.asker.deliver(call.result())
            self._schedule()

        self._workers.submit(lambda: self._complete(ticket.need, provider)).add_done_callback(came_back)

    def _found_no_place(self, ticket: Ticket) -> None:
        self._waiting.discard(ticket.owner, ticket)
        code = AesmErrorCode.SERVICE_UNAVAILABLE if self._provider is None else AesmErrorCode.BUSY
        ticket.asker.deliver(ticket.need.refuse(code))

    def _never_came_back(self, ticket: Ticket) -> None:
        self._calls.pop(ticket, None)
        ticket.asker.deliver(ticket.need.refuse(AesmErrorCode.SERVICE_UNAVAILABLE))

    def _refuse_all_waiting(self) -> None:
        while (ticket := self._waiting.take()) is not None:
            self._placeless.discard(ticket)
            ticket.asker.deliver(ticket.need.refuse(AesmErrorCode.SERVICE_UNAVAILABLE))

    def _complete(self, need: Need, provider: QuoteProvider) -> Response:
        try:
            return _call(need, provider)
        except QuoteProviderError as error:
            suppressed = self._refusal_log.admit()
            if suppressed is not None:
                fields = {"code": error.code.name, "error": str(error), "suppressed": suppressed}
                _logger.debug("the provider refused", extra=fields)
            if error.code is AesmErrorCode.INVALID_REPORT and isinstance(need, NeedQuote):
                return need.reject_report(self._stale.code_for_rejected_report(), _quote_size(provider))
            return need.refuse(error.code)
        except BaseException:  # a panic in Rust is no Exception (pyo3), and others wait beside this one
            suppressed = self._failure_log.admit()
            if suppressed is not None:
                _logger.exception(
                    "the quote provider failed", extra={"provider": provider.name, "suppressed": suppressed}
                )
            return need.refuse(AesmErrorCode.UNEXPECTED_ERROR)


def _quote_size(provider: QuoteProvider) -> int:
    """The size of a quote in bytes; 0 if the provider cannot say it now."""
    try:
        return provider.quote_size()
    except QuoteProviderError:
        return 0


def _call(need: Need, provider: QuoteProvider) -> Response:
    match need:
        case NeedQuote():
            result = provider.quote(need.report, need.qe_report_info)
            return need.answer(result.quote, result.qe_report_info)
        case NeedIdentity():
            identity = provider.identity()
            return need.answer(identity.target_info, identity.pub_key_id)
        case NeedQuoteSize():
            return need.answer(provider.quote_size())
