"""Answering of requests: at once if no provider is needed, else in fair turns and within a deadline."""

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.aesm.request_checks import Need, NeedIdentity, NeedQuote, NeedQuoteSize, plan
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.fair_queue import FairQueue
from confcom.quote_helper.limits_and_deadlines import QUOTE_BATCH, HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_provider.base import CallsInLoop, QuoteProvider, QuoteProviderError

_logger = logging.getLogger(__name__)

A = TypeVar("A")


@dataclass(slots=True, eq=False)
class Ticket(Generic[A]):
    """A request that needs the provider; kept from its arrival until the provider's call returns."""

    owner: Hashable  # the peer whose turn the request waits for
    need: Need
    asker: A
    arrived: float  # by the service's clock
    repeated: bool = False  # whether the provider is called again, since the first call found it lost
    abandoned: bool = False  # whether its client has disconnected


def call_of(need: Need, provider: QuoteProvider) -> Callable[[], Any]:
    match need:
        case NeedQuote():
            return lambda: provider.quote(need.report, need.qe_report_info)
        case NeedIdentity():
            return provider.identity
        case NeedQuoteSize():
            return provider.quote_size


class QuoteService(Generic[A]):
    """Answers requests. Requests for key ids never wait, whatever state the provider is in.

    Requests that need the provider wait for their peer's turn and for a provider. An inline provider
    is called in the event loop, which runs other tasks after `turn_seconds`. A provider that waits for another
    process is called without blocking the loop, with as many concurrent calls as the provider supports.
    """

    def __init__(
        self,
        deliver: Callable[[A, Response], None],
        *,
        stale: StaleTargetPolicy,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._stale = stale
        self._failure_log = LogLimiter(limits.repeated_log_seconds, clock)
        self._limits = limits
        self._clock = clock
        self._provider: QuoteProvider | None = None
        self.deliver = deliver
        """Sends the answer to the client for whose request `respond` returned a ticket. The function must not raise."""
        self._on_lost: Callable[[QuoteProviderError], None] = lambda _: None
        self._refusal: AesmErrorCode | None = None
        """Code with which requests are refused while there is no provider; if it is None, requests wait."""
        self.refused = False
        """Whether a request was refused for lack of a provider. Each self-test sets `refused` to False."""
        self._in_loop: CallsInLoop | None = None  # None if the provider is called inline
        self._stopping = False
        self._scheduled = False
        self._waiting: FairQueue[Ticket[A]] = FairQueue()
        self._active_calls = 0  # including calls for abandoned requests

    @property
    def waiting(self) -> int:
        return self._waiting.size

    @property
    def prompt(self) -> bool:
        """Whether requests are served in a few turns of the event loop; then connections need no watching."""
        return self._provider is not None and self._in_loop is None

    def provide(
        self,
        provider: QuoteProvider,
        in_loop: CallsInLoop | None = None,
        on_lost: Callable[[QuoteProviderError], None] = lambda _: None,
    ) -> None:
        """Set the provider (always the same one) and serve waiting requests, inline if `in_loop` is None.

        A call that finds the provider lost calls `on_lost`.
        """
        self._provider, self._in_loop = provider, in_loop
        self._on_lost = on_lost
        self._schedule()

    def withdraw(self, refusal: AesmErrorCode | None = None) -> None:
        """Remove the lost provider; requests wait for its return, or are refused with the code `refusal`."""
        self._provider = None
        self._refusal = AesmErrorCode.SERVICE_UNAVAILABLE if self._stopping else refusal
        while self._refusal is not None and (ticket := self._waiting.take()) is not None:
            self.deliver(ticket.asker, ticket.need.refuse(self._refusal))

    def stop(self) -> None:
        """From now on, refuse requests whenever there is no provider, and do not call `on_lost`."""
        self._stopping = True
        self._on_lost = lambda _: None
        if self._provider is None:
            self.withdraw()

    def close(self) -> None:
        if self._in_loop is not None:
            self._in_loop.close()
        self._waiting = FairQueue()

    def respond(self, request: Request, owner: Hashable, asker: A) -> Response | Ticket[A]:
        """Return the answer, or a ticket if the answer comes later through `deliver`."""
        planned = plan(request)
        if not isinstance(planned, Need):
            return planned
        if self._provider is None and self._refusal is not None:
            self.refused = True
            return planned.refuse(self._refusal)
        ticket = Ticket(owner, planned, asker, self._clock())
        self._waiting.put(owner, ticket)
        self._schedule()
        return ticket

    def refuse_as_busy(self, request: Request) -> Response:
        """Answer a request without calling the provider; the answer is BUSY if a call is needed."""
        planned = plan(request)
        return planned.refuse(AesmErrorCode.BUSY) if isinstance(planned, Need) else planned

    def abandon(self, ticket: Ticket[A]) -> None:
        """Forget a ticket whose client disconnected; a running call for the ticket still counts as active."""
        ticket.abandoned = True
        self._waiting.discard(ticket.owner, ticket)

    def refuse_late(self, limit: int) -> bool:
        """Refuse at most `limit` requests that have waited for too long; return whether more may be late."""
        since = self._clock() - self._limits.provider_wait_seconds
        late = list(islice(self._waiting.leading(lambda ticket: ticket.arrived <= since), limit))
        code = AesmErrorCode.SERVICE_UNAVAILABLE if self._provider is None else AesmErrorCode.BUSY
        for ticket in late:
            self._waiting.discard(ticket.owner, ticket)
            self.deliver(ticket.asker, ticket.need.refuse(code))
        return len(late) == limit

    def _schedule(self) -> None:
        provider = self._provider
        if provider is None or not self._waiting.size:
            return
        if self._in_loop is not None:
            self._start_calls(provider, self._in_loop)
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._take_turns)

    def _take_turns(self) -> None:
        self._scheduled = False
        provider = self._provider
        if provider is None:
            return
        ends = self._clock() + self._limits.turn_seconds
        while self._waiting.size and self._clock() < ends:
            self._quote_batch(provider)
        self._schedule()

    def _quote_batch(self, provider: QuoteProvider) -> None:
        # Make a batch of quotes before sending any, since each phase keeps its own code in the CPU's caches.
        answers: list[tuple[A, Response]] = []
        while len(answers) < QUOTE_BATCH and (ticket := self._waiting.take()) is not None:
            result = self._complete(ticket.need, provider, call_of(ticket.need, provider))
            answers.append(
                (ticket.asker, ticket.need.refuse(result.code) if isinstance(result, QuoteProviderError) else result)
            )
        for asker, answer in answers:
            self.deliver(asker, answer)

    def _start_calls(self, provider: QuoteProvider, in_loop: CallsInLoop) -> None:
        while self._active_calls < in_loop.max_concurrent_calls and (ticket := self._waiting.take()) is not None:
            self._active_calls += 1
            self._start_call(ticket, provider, in_loop)

    def _start_call(self, ticket: Ticket[A], provider: QuoteProvider, in_loop: CallsInLoop) -> None:
        def on_done(outcome: Callable[[], object]) -> None:
            result = self._complete(ticket.need, provider, outcome)
            self._active_calls -= 1
            if isinstance(result, QuoteProviderError):
                self._on_lost(result)
                if not ticket.abandoned:
                    self._repeat_or_refuse(ticket, result.code)
            elif not ticket.abandoned:
                self.deliver(ticket.asker, result)
            self._schedule()

        in_loop.start(ticket.need, on_done)

    def _repeat_or_refuse(self, ticket: Ticket[A], code: AesmErrorCode) -> None:
        """Refuse a request, or let it wait once for the provider's return; a second quote does no harm."""
        late = self._clock() - ticket.arrived > self._limits.provider_wait_seconds
        refused = self._provider is None and self._refusal is not None
        if ticket.repeated or late or refused or self._stopping:
            self.deliver(ticket.asker, ticket.need.refuse(code))
            return
        ticket.repeated = True
        self._waiting.put(ticket.owner, ticket, first=True)

    def _complete(
        self, need: Need, provider: QuoteProvider, outcome: Callable[[], Any]
    ) -> Response | QuoteProviderError:
        try:
            return need.answer(outcome())
        except QuoteProviderError as error:
            if error.lost:
                return error
            if error.code is AesmErrorCode.INVALID_REPORT and isinstance(need, NeedQuote):
                if provider.last_identity is not None:
                    self._stale.quotes_for(provider.last_identity.target_info.encode())
                return need.reject_report(self._stale.code_for_rejected_report(), provider.last_quote_size)
            return need.refuse(error.code)
        except BaseException:  # a panic in Rust is not an Exception (pyo3), and it must not fail other requests
            if (suppressed := self._failure_log.admit()) is not None:
                _logger.exception("the quote provider failed", extra={"suppressed": suppressed})
            return need.refuse(AesmErrorCode.UNEXPECTED_ERROR)
