"""The checks of every request's parameters, in the order of Intel's service, and the answers. Pure functions.

`plan` returns the answer if no quote provider is needed, else what the provider must supply. The caller then calls the
provider and completes the answer with `need.answer` or, if the provider failed, with `need.refuse`. Sources: Intel's
quote_ex_service_bundle.cpp and AE*Request.cpp, and answers recorded from its server.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
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
    LegacyRequest,
    LegacyResponse,
    MessageKind,
    QuotingTarget,
    Request,
    Response,
    SelectAttKeyIdRequest,
    SelectAttKeyIdResponse,
)
from confcom.sgx.key_id import ATT_KEY_ID_COMPARED, ATT_KEY_ID_SIZE, ECDSA_P256_KEY_ID
from confcom.sgx.report import QE_REPORT_INFO_SIZE, REPORT_SIZE, TARGET_INFO_SIZE, QeReportInfo, Report

PUB_KEY_ID_SIZE: Final = 32
"""Bytes of a public key id, which is a SHA-256 digest. Intel's ql wrapper fails on ids of other sizes."""

MAX_QUOTE_BUFFER_SIZE: Final = 16 * 1024
"""Largest buf_size of GetQuoteEx, in bytes. The answer is as long as the buffer, so this limits the
memory of an unread answer. Intel's library makes quotes of at most 13,346 bytes (certification data of
12,294), Gramine asks for 8,192; Intel's server accepts up to 64 MiB."""

MAX_LISTED_KEY_IDS: Final = 10
"""Maximum number of key ids in a list that SelectAttKeyID accepts, as in Intel's quote_ex service."""

_LIST_HEADER: Final = struct.Struct("<HHI")
"""sgx_att_key_id_list_t: id, version, number of entries."""

_SUPPORTED: Final = ECDSA_P256_KEY_ID.encode()
_SUPPORTED_PREFIX: Final = _SUPPORTED[:ATT_KEY_ID_COMPARED]


@dataclass(frozen=True, slots=True)
class NeedIdentity:
    """InitQuoteEx: the provider must supply the quoting enclave's target info and public key id."""

    def answer(self, target: QuotingTarget) -> InitQuoteExResponse:
        info = target.target_info.encode()
        return InitQuoteExResponse(AesmErrorCode.SUCCESS, info, PUB_KEY_ID_SIZE, target.pub_key_id)

    def refuse(self, code: AesmErrorCode) -> InitQuoteExResponse:
        return InitQuoteExResponse(code, pub_key_id_size=PUB_KEY_ID_SIZE)


@dataclass(frozen=True, slots=True)
class NeedQuoteSize:
    """GetQuoteSizeEx: the provider must supply the exact size of its next quote."""

    def answer(self, size: int) -> GetQuoteSizeExResponse:
        """Return the answer; `size` must be exact, since Open Enclave and Fortanix keep all bytes after the quote."""
        return GetQuoteSizeExResponse(AesmErrorCode.SUCCESS, size)

    def refuse(self, code: AesmErrorCode) -> GetQuoteSizeExResponse:
        return GetQuoteSizeExResponse(code, 0)


@dataclass(slots=True)
class NeedQuote:
    """GetQuoteEx: the provider must make a quote, and the QE's report if `qe_report_info` is given."""

    report: Final[Report]
    qe_report_info: Final[QeReportInfo | None]
    buf_size: Final[int]

    def answer(self, made: AesmQuote) -> GetQuoteExResponse:
        """Return the quote, padded with zeros to the buffer's size, or error 3 if the buffer is too small.

        Without a QE report, the request's `qe_report_info` is used: Fortanix's client panics without a value.
        """
        if len(made.quote) > self.buf_size:
            return self.refuse(AesmErrorCode.PARAMETER_ERROR)
        echoed = made.qe_report_info or self.qe_report_info
        return GetQuoteExResponse(
            AesmErrorCode.SUCCESS, made.quote.ljust(self.buf_size, b"\0"), echoed.encode() if echoed else None
        )

    def reject_report(self, code: AesmErrorCode, quote_size: int) -> GetQuoteExResponse:
        """Refuse a report that was not made for this QE. Return error `code`, or error 3 if the buffer is too small.

        Intel's library checks the buffer's size before the QE checks the report.
        """
        return self.refuse(code if quote_size <= self.buf_size else AesmErrorCode.PARAMETER_ERROR)

    def refuse(self, code: AesmErrorCode) -> GetQuoteExResponse:
        """Return the answer if the provider failed; like Intel's answer, it repeats qe_report_info."""
        return GetQuoteExResponse(code, qe_report_info=self.qe_report_info.encode() if self.qe_report_info else None)


Need = NeedQuote | NeedIdentity | NeedQuoteSize
Plan = Need | Response


def plan(request: Request) -> Plan:
    """Return the answer, or what the provider must supply to complete it."""
    planned: Plan
    match request:
        case GetQuoteExRequest():
            planned = _quote(request)
        case GetSupportedAttKeyIdNumRequest():
            planned = GetSupportedAttKeyIdNumResponse(AesmErrorCode.SUCCESS, 1)
        case GetSupportedAttKeyIdsRequest():
            fits = request.buf_size == len(_SUPPORTED)
            code = AesmErrorCode.SUCCESS if fits else AesmErrorCode.PARAMETER_ERROR
            planned = GetSupportedAttKeyIdsResponse(code, _SUPPORTED if fits else None)
        case SelectAttKeyIdRequest():
            planned = _select(request.att_key_id_list)
        case InitQuoteExRequest():
            planned = _init(request)
        case GetQuoteSizeExRequest():
            refusal = _key_id_refusal(request.att_key_id)
            planned = NeedQuoteSize() if refusal is None else NeedQuoteSize().refuse(refusal)
        case LegacyRequest():
            planned = refuse(request.kind, AesmErrorCode.SERVICE_UNAVAILABLE)
        case _:  # IncompleteRequest is the only remaining type
            planned = refuse(request.kind, AesmErrorCode.UNEXPECTED_ERROR)
    return planned


def refuse(kind: MessageKind, code: AesmErrorCode) -> Response:
    """Return an error answer to a request of this kind, with the zeros that Intel's server writes."""
    make = _REFUSALS.get(kind)
    return LegacyResponse(kind, code) if make is None else make(code)


_REFUSALS: Final[Mapping[MessageKind, Callable[[AesmErrorCode], Response]]] = {
    MessageKind.INIT_QUOTE_EX: lambda code: InitQuoteExResponse(code, pub_key_id_size=0),
    MessageKind.GET_QUOTE_SIZE_EX: lambda code: GetQuoteSizeExResponse(code, 0),
    MessageKind.GET_QUOTE_EX: GetQuoteExResponse,
    MessageKind.SELECT_ATT_KEY_ID: SelectAttKeyIdResponse,
    MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM: lambda code: GetSupportedAttKeyIdNumResponse(code, 0),
    MessageKind.GET_SUPPORTED_ATT_KEY_IDS: GetSupportedAttKeyIdsResponse,
}


def _init(request: InitQuoteExRequest) -> NeedIdentity | InitQuoteExResponse:
    refusal = _key_id_refusal(request.att_key_id)
    if refusal is not None:
        return InitQuoteExResponse(refusal, pub_key_id_size=request.buf_size or 0)
    if not request.b_pub_key_id:
        # buf_size is ignored, since Intel's ql wrapper sends uninitialised stack memory in this field.
        return InitQuoteExResponse(AesmErrorCode.SUCCESS, bytes(TARGET_INFO_SIZE), PUB_KEY_ID_SIZE)
    if request.buf_size != PUB_KEY_ID_SIZE:
        return InitQuoteExResponse(AesmErrorCode.PARAMETER_ERROR, pub_key_id_size=request.buf_size or 0)
    return NeedIdentity()


def _quote(request: GetQuoteExRequest) -> NeedQuote | GetQuoteExResponse:
    # The key id is checked before all sizes, as in Intel's quote_ex service.
    code = _key_id_refusal(request.att_key_id)
    info = request.qe_report_info
    if code is None and (
        len(request.report) != REPORT_SIZE
        or (info is not None and len(info) != QE_REPORT_INFO_SIZE)
        or not 0 < request.buf_size <= MAX_QUOTE_BUFFER_SIZE
    ):
        code = AesmErrorCode.PARAMETER_ERROR
    if code is not None:
        return GetQuoteExResponse(code, qe_report_info=info or None)
    return NeedQuote(Report.parse(request.report), None if info is None else QeReportInfo.parse(info), request.buf_size)


def _key_id_refusal(key_id: bytes | None) -> AesmErrorCode | None:
    if key_id is None or len(key_id) < ATT_KEY_ID_SIZE:
        return AesmErrorCode.PARAMETER_ERROR
    return None if key_id.startswith(_SUPPORTED_PREFIX) else AesmErrorCode.UNSUPPORTED_ATT_KEY_ID


def _select(listed: bytes | None) -> SelectAttKeyIdResponse:
    if listed is None:
        return SelectAttKeyIdResponse(AesmErrorCode.SUCCESS, _SUPPORTED)
    entries = _listed_key_ids(listed)
    if not entries:
        return SelectAttKeyIdResponse(AesmErrorCode.PARAMETER_ERROR)
    # Return the client's entry, not our constant: only a prefix is compared; the rest belongs to the client.
    chosen = next((entry for entry in entries if entry.startswith(_SUPPORTED_PREFIX)), None)
    return SelectAttKeyIdResponse(AesmErrorCode.SUCCESS if chosen else AesmErrorCode.UNSUPPORTED_ATT_KEY_ID, chosen)


def _listed_key_ids(listed: bytes) -> tuple[bytes, ...]:
    """Return the entries of a list of key ids, or an empty tuple if `listed` is malformed."""
    if len(listed) < _LIST_HEADER.size:
        return ()
    list_id, version, count = _LIST_HEADER.unpack_from(listed)
    entries = listed[_LIST_HEADER.size :]
    if list_id or version or count > MAX_LISTED_KEY_IDS or len(entries) != count * ATT_KEY_ID_SIZE:
        return ()
    return tuple(entries[at : at + ATT_KEY_ID_SIZE] for at in range(0, len(entries), ATT_KEY_ID_SIZE))
