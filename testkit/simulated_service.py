"""An AESM service over a simulated quoting enclave, without I/O."""

from __future__ import annotations

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.aesm.request_checks import NeedIdentity, NeedQuote, NeedQuoteSize, plan
from confcom.simulation.enclave import ReportRejectedError
from confcom.simulation.quoting_enclave import QuotingEnclave


def answer(quoting_enclave: QuotingEnclave, request: Request) -> Response:
    """Answer a request as the quote helper does."""
    match plan(request):
        case NeedIdentity() as need:
            return need.answer(quoting_enclave.target_info, quoting_enclave.pub_key_id)
        case NeedQuoteSize() as need:
            return need.answer(quoting_enclave.quote_size)
        case NeedQuote() as need:
            try:
                return need.answer(*quoting_enclave.quote(need.report, need.qe_report_info))
            except ReportRejectedError:
                return need.reject_report(AesmErrorCode.INVALID_REPORT, quoting_enclave.quote_size)
        case response:
            return response
