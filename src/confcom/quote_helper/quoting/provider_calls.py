"""From what a request needs to the provider's call, and from what that returns to the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from confcom.aesm.messages import Response
from confcom.aesm.request_checks import Need, NeedIdentity, NeedQuote, NeedQuoteSize
from confcom.quote_provider.base import QuoteProvider, QuoteResult, QuotingIdentity

if TYPE_CHECKING:
    from confcom.quote_provider.aesmd_calls import AesmdInLoop


def call_of(need: Need, provider: QuoteProvider) -> Callable[[], QuoteResult | QuotingIdentity | int]:
    """Return the provider's call that a need is for."""
    match need:
        case NeedQuote():
            return lambda: provider.quote(need.report, need.qe_report_info)
        case NeedIdentity():
            return provider.identity
        case NeedQuoteSize():
            return provider.quote_size


def start_in_loop(need: Need, in_loop: AesmdInLoop, done: Callable[[Callable[[], object]], None]) -> None:
    """Start the call that a need is for."""
    match need:
        case NeedQuote():
            in_loop.quote(need.report, need.qe_report_info, done)
        case NeedIdentity():
            in_loop.identity(done)
        case NeedQuoteSize():
            in_loop.quote_size(done)


def answer_with(need: Need, result: Any) -> Response:  # noqa: ANN401 # as the need's own call returned it
    """Return the answer with what that call returned."""
    match need:
        case NeedQuote():
            return need.answer(result.quote, result.qe_report_info)
        case NeedIdentity():
            return need.answer(result.target_info, result.pub_key_id)
        case NeedQuoteSize():
            return need.answer(result)
