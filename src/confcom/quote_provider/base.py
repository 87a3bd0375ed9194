"""The one interface between the quote helper and whatever makes quotes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from confcom.aesm.error_code import AesmErrorCode
from confcom.errors import ConfcomError
from confcom.sgx.report import QeReportInfo, Report, TargetInfo


class QuoteProviderError(ConfcomError):
    """A quote could not be made; `code` is what AESM's client is told."""

    def __init__(self, code: AesmErrorCode, what: str, *, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why=why, remedy=remedy)
        self.code = code


@dataclass(frozen=True, slots=True)
class QuotingIdentity:
    """What a client must know before it makes a report for the quoting enclave."""

    target_info: TargetInfo
    pub_key_id: bytes
    """SHA-256 of attestation public key and QE auth data: 32 bytes."""


@dataclass(frozen=True, slots=True)
class QuoteResult:
    """One quote, and the QE's report over it if the client asked for one."""

    quote: bytes
    qe_report_info: QeReportInfo | None


class QuoteProvider(Protocol):
    """Makes quotes. Every method may raise QuoteProviderError; none may block if `blocking` is false.

    An inline provider is used from one thread at a time, a blocking one from as many as it bears. Sizes are exact:
    clients keep trailing bytes.
    """

    @property
    def name(self) -> str:
        """For logs and metrics: `simulated`, `upstream`, `dcap`."""

    @property
    def blocking(self) -> bool:
        """Whether calls may take longer than an event loop can wait (a millisecond)."""

    @property
    def max_concurrent_calls(self) -> int:
        """How many calls a blocking provider bears at once, each from a thread of its own; 1 for most libraries."""

    def identity(self) -> QuotingIdentity:
        """Prepare the attestation key if need be, and say whom reports must be targeted at."""

    def quote_size(self) -> int:
        """The exact size in bytes of the next quote."""

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> QuoteResult:
        """Check the report's MAC and sign its body.

        Raises:
            QuoteProviderError: INVALID_REPORT if the report was not made for this QE.
        """

    def close(self) -> None:
        """Release what the provider holds; it is not used afterwards."""
