"""A quote provider with a simulated quoting enclave in this process."""

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import AesmQuote, QuotingTarget
from confcom.quote_provider.base import QuoteProviderError
from confcom.sgx.report import QeReportInfo, Report
from confcom.simulation.enclave import ReportRejectedError, SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY


class SimulatedQuoteProvider:
    """A QuoteProvider for a simulated platform.

    Target info, public key id and quote size depend only on the platform and the QE's identity, so a client may call
    InitQuoteEx on one instance and GetQuoteEx on another.
    """

    def __init__(self, platform: SimulatedPlatform, qe_identity: SimulatedEnclave = DEFAULT_QE_IDENTITY) -> None:
        self._quoting_enclave = enclave = platform.quoting_enclave(qe_identity)
        self.last_identity = QuotingTarget(enclave.checker.target, enclave.pub_key_id)
        self.last_quote_size = enclave.quote_size

    def identity(self) -> QuotingTarget:
        return self.last_identity

    def quote_size(self) -> int:
        return self.last_quote_size

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> AesmQuote:
        try:
            quote, answer = self._quoting_enclave.quote(report, qe_report_info)
        except ReportRejectedError as error:
            raise QuoteProviderError(
                AesmErrorCode.INVALID_REPORT, error.what, why=error.why, remedy=error.remedy
            ) from error
        return AesmQuote(quote, answer)
