"""The self-tests before the helper is ready: an identity alone does not show that quotes can be made."""

from __future__ import annotations

from collections.abc import Callable

from confcom.aesm.error_code import AesmErrorCode
from confcom.errors import MalformedError
from confcom.quote_provider.base import WRONG_SERVICE, QuoteProvider, QuoteProviderError, QuotingIdentity
from confcom.sgx.quote import Quote
from confcom.sgx.report import KEY_ID_SIZE, MAC_SIZE, REPORT_BODY_SIZE, Report, TargetInfo

_REFUSALS = frozenset({AesmErrorCode.INVALID_REPORT, AesmErrorCode.ATT_KEY_NOT_INITIALIZED})
"""Codes for a report with a wrong MAC, from a service whose InitQuoteEx and GetQuoteSizeEx succeeded just before.
Intel's gives the first. A quote helper gives the second while the report may be for an earlier quoting enclave."""

ReportMaker = Callable[[TargetInfo], Report]
"""Makes a report for a quoting enclave. It comes with the provider, because on hardware it needs an enclave."""


def run_self_test(provider: QuoteProvider, make_report: ReportMaker) -> QuotingIdentity:
    """Get identity, quote size and a quote, as a client does, and check the quote; return the identity.

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


def run_hardware_self_test(provider: QuoteProvider) -> QuotingIdentity:
    """Get identity and quote size, and check that the quoting enclave refuses a report with a wrong MAC.

    The helper has no enclave, so it cannot make a right report. A refusal shows that the quoting enclave runs: only it
    can check the MAC.

    Raises:
        QuoteProviderError: the provider failed, or accepted the report.
    """
    identity = provider.identity()
    provider.quote_size()
    body = bytes(REPORT_BODY_SIZE)
    try:
        provider.quote(Report(body, key_id=bytes(KEY_ID_SIZE), mac=bytes(MAC_SIZE)), None)
    except QuoteProviderError as error:
        if error.code not in _REFUSALS:
            raise
        return identity
    raise QuoteProviderError(
        AesmErrorCode.UNEXPECTED_ERROR,
        "the quoting service signs reports that no enclave made",
        error_code="wrong-report-signed",
        why="it made a quote of a report whose MAC is zero",
        remedy=WRONG_SERVICE,
    )


def _wrong(why: str) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.UNEXPECTED_ERROR,
        "the quote of the self-test is wrong",
        why=why,
        remedy="report this bug with the log",
    )
