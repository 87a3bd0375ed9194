"""The self-test, which makes a whole quote before the helper is ready: an identity alone does not show that it can."""

from __future__ import annotations

from collections.abc import Callable

from confcom.aesm.error_code import AesmErrorCode
from confcom.errors import MalformedError
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError, QuotingIdentity
from confcom.sgx.quote import Quote
from confcom.sgx.report import Report, TargetInfo

ReportMaker = Callable[[TargetInfo], Report]
"""Makes a report for a quoting enclave. It comes with the provider, because on hardware it needs an enclave."""


def run_self_test(provider: QuoteProvider, make_report: ReportMaker) -> QuotingIdentity:
    """Get identity, quote size and a quote, as a client does, and check the quote.

    Returns:
        The identity that clients get.

    Raises:
        QuoteProviderError: no quote was made, or it does not match the request.
    """
    identity = provider.identity()
    size = provider.quote_size()
    report = make_report(identity.target_info)
    result = provider.quote(report, None)
    try:
        quote = Quote.parse(result.quote)
    except MalformedError as error:
        raise _wrong(f"it cannot be read: {error}") from error
    if quote.trailing or len(result.quote) != size:
        raise _wrong(f"it has {len(result.quote)} bytes, but GetQuoteSizeEx returned {size}")
    if quote.body != report.body:
        raise _wrong("it contains another report")
    if quote.signature.pub_key_id != identity.pub_key_id:
        raise _wrong("its key differs from the one that InitQuoteEx returned")
    return identity


def _wrong(why: str) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.UNEXPECTED_ERROR,
        "the quote of the self-test is wrong",
        why=why,
        remedy="report this bug with the log",
    )
