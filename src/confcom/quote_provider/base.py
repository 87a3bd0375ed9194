"""The interface between the quote helper and a quote provider."""

from dataclasses import dataclass
from typing import Final, Protocol

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.errors import ConfcomError
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

WRONG_SERVICE: Final = "check which program serves the helper's private AESM socket"
"""What to do about an answer that Intel's aesmd does not give."""


class QuoteProviderError(ConfcomError):
    """A quote could not be made.

    If it is `lost`, no further call can succeed before the provider answers again. `error_code`, the stable code of the
    cause, is by default that of the AESM code.
    """

    def __init__(
        self,
        code: AesmErrorCode,
        what: str,
        *,
        error_code: str = "",
        why: str = "",
        remedy: str = "",
        lost: bool = False,
    ) -> None:
        super().__init__(what, error_code=error_code or code_of(code), why=why, remedy=remedy)
        self.code = code
        self.lost = lost


@dataclass(frozen=True, slots=True)
class QuotingIdentity:
    """What a client needs before it makes a report for the quoting enclave."""

    target_info: TargetInfo
    pub_key_id: bytes
    """SHA-256 of the attestation public key and the QE's auth data: 32 bytes."""


@dataclass(frozen=True, slots=True)
class QuoteResult:
    """A quote, and the QE's report about it if the client asked for one."""

    quote: bytes
    qe_report_info: QeReportInfo | None


class QuoteProvider(Protocol):
    """Makes quotes. Every method may raise QuoteProviderError.

    Sizes must be exact, because clients keep trailing bytes. One thread calls a provider at a time: the event loop, or
    the self-test's if calls wait for another process. Such a provider has calls for the event loop too, for clients.
    """

    @property
    def last_identity(self) -> QuotingIdentity | None:
        """The identity that was given last, without a call; None if none was given yet."""

    @property
    def last_quote_size(self) -> int:
        """The quote size that was given last, without a call; 0 if none was given yet."""

    def identity(self) -> QuotingIdentity:
        """Return target info and public key id; prepare the attestation key first if necessary."""

    def quote_size(self) -> int:
        """Return the exact size of the next quote in bytes."""

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> QuoteResult:
        """Verify the report's MAC and sign its body.

        Raises:
            QuoteProviderError: INVALID_REPORT if the report was not made for this QE.
        """
