"""The self-tests before the helper is ready: an identity alone does not show that quotes can be made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from confcom.aesm.error_code import AesmErrorCode
from confcom.quote_provider.base import WRONG_SERVICE, QuoteProvider, QuoteProviderError, QuotingIdentity
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.quote_provider.quote_checks import QuoteChecker
from confcom.sgx.quote import REPORT_BODY
from confcom.sgx.report import KEY_ID_SIZE, MAC_SIZE, REPORT_BODY_SIZE, Report, TargetInfo

_REFUSALS = frozenset({AesmErrorCode.INVALID_REPORT, AesmErrorCode.ATT_KEY_NOT_INITIALIZED})
"""Codes for a report with a wrong MAC, from a service whose InitQuoteEx and GetQuoteSizeEx succeeded just before.
Intel's gives the first. A quote helper gives the second while the report may be for an earlier quoting enclave."""

ReportMaker = Callable[[TargetInfo], Report]
"""Makes a report for a quoting enclave. It comes with the provider, because on hardware it needs an enclave."""


def run_self_test(
    provider: QuoteProvider, make_report: ReportMaker, root: ExpectedRoot, now: datetime
) -> QuotingIdentity:
    """Get identity, quote size and a quote, as a client does, and verify the quote up to the root; return the identity.

    Signatures, the QE's report, the certificate chain and its dates are verified; revocation and TCB are not.

    Raises:
        QuoteProviderError: no quote was made, or no verifier would accept it.
    """
    identity = provider.identity()
    size = provider.quote_size()
    report = make_report(identity.target_info)
    quote = provider.quote(report, None).quote
    try:
        QuoteChecker(root).check(quote, size=size, identity=identity, now=now)
    except QuoteProviderError as error:
        raise _wrong(error.why, error_code=error.error_code) from error
    if quote[REPORT_BODY] != report.encoded_body:
        raise _wrong("it contains another report", error_code="quote-of-another-report")
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


def _wrong(why: str, *, error_code: str) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.ATT_KEY_CERT_DATA_INVALID,
        "no verifier accepts the quote of the self-test",
        error_code=error_code,
        why=why,
        remedy="if a certificate is not valid now, correct the clock; or delete the simulated root, create another and "
        "export it to relying parties; otherwise report this bug with the log",
    )
