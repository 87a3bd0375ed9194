"""A client's sequences of requests, without I/O: generators that yield requests and are sent the responses.

`confcom.client.blocking` runs these generators in a thread, `confcom.client.asynchronous` in an event loop.
"""

import hashlib
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from confcom.aesm.errors import ProtocolError, SessionMisuseError, StaleTargetError, service_error
from confcom.aesm.messages import (
    AesmQuote,
    GetQuoteExRequest,
    GetQuoteExResponse,
    GetQuoteSizeExRequest,
    GetQuoteSizeExResponse,
    GetSupportedAttKeyIdNumRequest,
    GetSupportedAttKeyIdNumResponse,
    GetSupportedAttKeyIdsRequest,
    GetSupportedAttKeyIdsResponse,
    InitQuoteExRequest,
    InitQuoteExResponse,
    QuotingRequest,
    QuotingResponse,
    QuotingTarget,
)
from confcom.aesm.request_checks import MAX_LISTED_KEY_IDS, MAX_QUOTE_BUFFER_SIZE, PUB_KEY_ID_SIZE
from confcom.errors import WrongTypeError
from confcom.sgx.key_id import ATT_KEY_ID_SIZE, ECDSA_P256_KEY_ID, AttKeyId
from confcom.sgx.quote import Quote
from confcom.sgx.report import REPORT_BODY_SIZE, QeReportInfo, Report, ReportBody, TargetInfo

T = TypeVar("T")
ResponseT = TypeVar("ResponseT", bound=QuotingResponse)
Conversation = Generator[QuotingRequest, QuotingResponse, T]

TIMEOUT_FIELD_MS: Final = 15_000
"""Milliseconds in the timeout field of every request, as in Intel's client; no server honours this field."""

_KEY_ID: Final = ECDSA_P256_KEY_ID.encode()


def init_quote() -> Conversation[QuotingTarget]:
    """Get the quoting enclave's target info and public key id."""
    request = InitQuoteExRequest(
        b_pub_key_id=True, att_key_id=_KEY_ID, buf_size=PUB_KEY_ID_SIZE, timeout=TIMEOUT_FIELD_MS
    )
    response = yield from _ask(request, InitQuoteExResponse)
    pub_key_id = response.pub_key_id or b""
    if len(pub_key_id) != PUB_KEY_ID_SIZE:
        raise _unusable(f"a public key id of {len(pub_key_id)} bytes instead of {PUB_KEY_ID_SIZE}")
    return QuotingTarget(TargetInfo.parse(response.target_info or b""), pub_key_id)


def quote_size() -> Conversation[int]:
    """Get the exact size of a quote in bytes."""
    request = GetQuoteSizeExRequest(_KEY_ID, TIMEOUT_FIELD_MS)
    response = yield from _ask(request, GetQuoteSizeExResponse)
    size = response.quote_size or 0
    if not 0 < size <= MAX_QUOTE_BUFFER_SIZE:
        raise _unusable(f"a quote size of {size} bytes")
    return size


def get_quote(report: Report, qe_report_info: QeReportInfo | None = None) -> Conversation[AesmQuote]:
    """Get a quote's size, then a quote of a report; check that the quote contains this report's body."""
    if not isinstance(report, Report):
        raise WrongTypeError("the report", "a Report (Report.parse reads its 432 bytes)", report)
    if not isinstance(qe_report_info, QeReportInfo | None):
        raise WrongTypeError("the QE report info", "a QeReportInfo, or None", qe_report_info)
    size = yield from quote_size()
    response = yield from request_quote(size, report, qe_report_info)
    return quote_in(response, report, qe_report_info)


def request_quote(
    size: int, report: Report, qe_report_info: QeReportInfo | None = None
) -> Conversation[GetQuoteExResponse]:
    """Ask for a quote of a report in a buffer of `size` bytes; return the answer unchecked."""
    info = None if qe_report_info is None else qe_report_info.encode()
    request = GetQuoteExRequest(report.encode(), size, _KEY_ID, info, TIMEOUT_FIELD_MS)
    return (yield from _ask(request, GetQuoteExResponse))


def quote_in(response: GetQuoteExResponse, report: Report, qe_report_info: QeReportInfo | None = None) -> AesmQuote:
    """Return the quote of an answer without its padding; check that the quote contains this report's body."""
    padded = response.quote or b""
    parsed = Quote.parse(padded)
    if parsed.trailing.strip(b"\0"):
        raise _unusable("a quote followed by other data")
    if parsed.body != report.body:
        raise _unusable("a quote over another report than ours", "quote-of-another-report")
    quote = padded[: len(padded) - len(parsed.trailing)]
    return AesmQuote(quote, qe_report_in(response, qe_report_info, quote))


def qe_report_in(response: GetQuoteExResponse, requested: QeReportInfo | None, quote: bytes) -> QeReportInfo | None:
    """Return the QE's report if requested; check its nonce and quote. The client's enclave must check its MAC."""
    if requested is None:
        return None
    returned = QeReportInfo.parse(response.qe_report_info or b"")
    if (returned.nonce, returned.app_enclave_target_info) != (requested.nonce, requested.app_enclave_target_info):
        raise _unusable("a QE report for another nonce or enclave than ours", "qe-report-of-another-quote")
    body = ReportBody.parse(returned.qe_report[:REPORT_BODY_SIZE])
    if body.report_data != hashlib.sha256(requested.nonce + quote).digest() + bytes(32):
        raise _unusable("a QE report over another quote", "qe-report-of-another-quote")
    return returned


def supported_key_ids() -> Conversation[tuple[AttKeyId, ...]]:
    """List the ids of the attestation keys that the service supports."""
    counted = yield from _ask(GetSupportedAttKeyIdNumRequest(timeout=TIMEOUT_FIELD_MS), GetSupportedAttKeyIdNumResponse)
    count = counted.att_key_id_num or 0
    if not 0 < count <= MAX_LISTED_KEY_IDS:
        raise _unusable(f"{count} attestation keys")
    size = count * ATT_KEY_ID_SIZE
    request = GetSupportedAttKeyIdsRequest(size, TIMEOUT_FIELD_MS)
    listed = yield from _ask(request, GetSupportedAttKeyIdsResponse)
    data = listed.att_key_ids or b""
    if len(data) != size:
        raise _unusable(f"{len(data)} bytes of attestation key ids instead of {size}")
    return tuple(AttKeyId.parse(data[at : at + ATT_KEY_ID_SIZE]) for at in range(0, size, ATT_KEY_ID_SIZE))


def quote_fresh_report(
    make_report: Callable[[TargetInfo], Report], qe_report_info: QeReportInfo | None = None
) -> Conversation[AesmQuote]:
    """Get target info, report and quote; repeat once with a new report if the quoting enclave changed (code 42)."""
    if not callable(make_report):
        raise WrongTypeError("make_report", "a function that makes a report for a target info", make_report)
    target = yield from init_quote()
    try:
        return (yield from get_quote(make_report(target.target_info), qe_report_info))
    except StaleTargetError:
        target = yield from init_quote()
        return (yield from get_quote(make_report(target.target_info), qe_report_info))


def _ask(request: QuotingRequest, answer: type[ResponseT]) -> Conversation[ResponseT]:
    response = yield request
    if not isinstance(response, answer):
        raise SessionMisuseError(f"a conversation received something other than the answer to {request.kind.call}")
    if response.error_code:
        raise service_error(response.error_code, request.kind.call)
    return response


def _unusable(what: str, error_code: str = "") -> ProtocolError:
    return ProtocolError(
        f"the AESM service answered with {what}",
        error_code=error_code,
        why="it is faulty, or it is not an AESM service",
        remedy="check which program serves the AESM socket",
    )
