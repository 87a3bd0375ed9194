"""From a request to its answer: what needs no provider at once, the rest through it, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from confcom.aesm.answers import Need, NeedIdentity, NeedQuote, NeedQuoteSize, plan
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.daemon.logs import LogLimiter
from confcom.daemon.worker import SerialWorker
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError

_logger = logging.getLogger(__name__)


class QuoteService:
    """Answers requests. Num, IDs and Select never wait, whatever state the provider is in.

    Without a provider (it is still being prepared) the others wait for one; a provider that blocks is called in the
    worker, one call at a time, and then they wait for their turn.

    Args:
        worker: where a blocking provider's calls run.
        failure_log: bounds the lines about a provider that fails in ways it should not.
        limits: how long a request waits.
    """

    def __init__(
        self,
        *,
        worker: SerialWorker,
        failure_log: LogLimiter,
        limits: HelperLimits,
    ) -> None:
        self._worker = worker
        self._failure_log = failure_log
        self._limits = limits
        self._provider: QuoteProvider | None = None
        self._provided = asyncio.Event()
        self._place = asyncio.Semaphore(1)

    def provide(self, provider: QuoteProvider) -> None:
        """The provider is ready: what waited for it goes on."""
        self._provider = provider
        self._provided.set()

    def stop(self) -> None:
        """Nothing will be provided any more: what still waits for a provider is refused."""
        self._provided.set()

    def respond(self, request: Request) -> Response | Coroutine[Any, Any, Response]:
        """The answer, or, if it takes time, what to await for it. It is never an exception."""
        planned = plan(request)
        if not isinstance(planned, Need):
            return planned
        if self._provider is None or self._provider.blocking:
            return self._respond_in_turn(planned)
        return self._complete(planned, self._provider)

    async def _respond_in_turn(self, need: Need) -> Response:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return await self._wait_and_complete(need)
        except TimeoutError:
            return need.refuse(AesmErrorCode.SERVICE_UNAVAILABLE)

    async def _wait_and_complete(self, need: Need) -> Response:
        deadline = asyncio.get_running_loop().time() + self._limits.place_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._provided.wait()
        provider = self._provider
        if provider is None:
            return need.refuse(AesmErrorCode.SERVICE_UNAVAILABLE)
        if not provider.blocking:
            return self._complete(need, provider)
        try:
            async with asyncio.timeout_at(deadline):
                await self._place.acquire()
        except TimeoutError:
            return need.refuse(AesmErrorCode.BUSY)
        # The place is free when the call ends, not when its client has gone: the provider is one.
        call = self._worker.submit(lambda: self._complete(need, provider))
        call.add_done_callback(lambda _: self._place.release())
        return await asyncio.shield(call)

    def _complete(self, need: Need, provider: QuoteProvider) -> Response:
        try:
            return _call(need, provider)
        except QuoteProviderError as error:
            _logger.debug("the provider refused", extra={"code": error.code.name, "error": str(error)})
            return need.refuse(error.code)
        except Exception:
            suppressed = self._failure_log.admit()
            if suppressed is not None:
                _logger.exception(
                    "the quote provider failed", extra={"provider": provider.name, "suppressed": suppressed}
                )
            return need.refuse(AesmErrorCode.UNEXPECTED_ERROR)


def _call(need: Need, provider: QuoteProvider) -> Response:
    match need:
        case NeedIdentity():
            identity = provider.identity()
            return need.answer(identity.target_info, identity.pub_key_id)
        case NeedQuoteSize():
            return need.answer(provider.quote_size())
        case NeedQuote():
            result = provider.quote(need.report, need.qe_report_info)
            return need.answer(result.quote, result.qe_report_info)
