"""The interface between the quote helper and a quote provider."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from cryptography import x509

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.aesm.messages import AesmQuote, QuotingTarget
from confcom.aesm.request_checks import Need
from confcom.daemon.readiness_log import NotReady
from confcom.errors import ConfcomError
from confcom.sgx.report import QeReportInfo, Report

WRONG_SERVICE: Final = "check which program serves the helper's private AESM socket"
"""Remedy for an answer that Intel's aesmd would not give."""


class QuoteProviderError(ConfcomError):
    """A quote could not be made.

    If `lost` is true, no call succeeds until the provider answers again, which takes at least
    `outage_seconds`. `error_code` is the stable code of the cause; by default it follows from the AESM code.
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
        self.outage_seconds = 0.0


class QuoteProvider(Protocol):
    """Makes quotes. Every method may raise QuoteProviderError.

    Quote sizes must be exact, because clients keep trailing bytes. One thread calls a provider at a time: the
    event loop's, or the self-test's. If calls wait for another process, clients' calls use Backend.in_loop.
    """

    @property
    def last_identity(self) -> QuotingTarget | None:
        """The identity that `identity` returned last, or None; reading it does not call the quoting enclave."""

    @property
    def last_quote_size(self) -> int:
        """The size that `quote_size` returned last, or 0; reading it does not call the quoting enclave."""

    def identity(self) -> QuotingTarget:
        """Return target info and public key id; prepare the attestation key first if necessary."""

    def quote_size(self) -> int:
        """Return the exact size of the next quote in bytes."""

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> AesmQuote:
        """Verify the report's MAC (INVALID_REPORT if it is not for this QE), and sign the report's body."""


class CallsInLoop(Protocol):
    """Makes a provider's calls without blocking the event loop while a call waits for another process."""

    @property
    def max_concurrent_calls(self) -> int:
        """The greatest number of concurrent calls."""

    def start(self, need: Need, done: Callable[[Callable[[], Any]], None]) -> None:
        """Start a call. After `start` has returned, `done` gets a function that returns the result, or raises."""

    def close(self) -> None:
        """Abort all calls; `done` is not called afterwards."""


class Certificate(StrEnum):
    PCK = "pck"
    SIMULATED_ROOT = "simulated_root"


@dataclass(frozen=True, slots=True)
class Backend:
    provider: QuoteProvider
    self_test: Callable[[], QuotingTarget]
    """Tests whether quotes can be made, and returns the identity that clients get. It raises
    QuoteProviderError, and may block if the provider's calls wait."""
    root: str = ""
    """SHA-256 of the root certificate, in hex; empty unless the platform has its own root."""
    certificates: Mapping[Certificate, x509.Certificate] = field(default_factory=dict)
    """The platform's certificates that are known before the first quote."""
    self_test_seconds: float | None = None
    """Time limit of a self-test, after which the provider counts as hung; None for the helper's limit."""
    waits_for: str = "itself"
    """Name that messages use for the service that a hung self-test waits for."""
    problem: Callable[[], NotReady | None] = lambda: None
    """Returns a problem of the backend that its self-test does not detect."""
    in_loop: CallsInLoop | None = None
    """Makes clients' calls; None if no call waits for another process."""
    doubted: Callable[[], bool] = lambda: False
    """Returns whether a call since the last self-test requires the next self-test at once."""
    instance: Callable[[], object] = lambda: None
    """Returns an id of the process that makes quotes; a new process is tested at once. Must not block."""
