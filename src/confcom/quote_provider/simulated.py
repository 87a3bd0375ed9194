"""Quotes from a simulated quoting enclave, in this process."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Self

from confcom.aesm.error_code import AesmErrorCode
from confcom.quote_provider.base import QuoteProviderError, QuoteResult, QuotingIdentity
from confcom.quote_provider.expiry import Expiring
from confcom.quote_provider.state_directory import open_or_create_platform, open_platform, utc_now
from confcom.sgx.report import QeReportInfo, Report
from confcom.simulation.enclave import ReportRejectedError
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY, QuotingEnclaveIdentity
from confcom.simulation.validity import Validity


class SimulatedQuoteProvider:
    """A QuoteProvider over a simulated platform.

    Everything it tells a client before a quote (target info, key id, size) follows from the platform and the QE's
    identity, so a client may Init with one instance and Quote with another.
    """

    def __init__(self, platform: SimulatedPlatform, qe_identity: QuotingEnclaveIdentity = DEFAULT_QE_IDENTITY) -> None:
        self._platform = platform
        self._quoting_enclave = platform.quoting_enclave(qe_identity)

    @classmethod
    def open(cls, state_dir: Path) -> Self:
        """Use the platform that is kept in a directory.

        Raises:
            UnavailableError: there is none, or it may not be read.
            PlatformStateError: it is damaged.
        """
        return cls(open_platform(state_dir))

    @classmethod
    def open_or_create(
        cls,
        state_dir: Path,
        *,
        qe_identity: QuotingEnclaveIdentity = DEFAULT_QE_IDENTITY,
        clock: Callable[[], datetime] = utc_now,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> Self:
        """Use the platform that is kept in a directory, made now if there is none.

        Args:
            state_dir: the directory.
            qe_identity: the quoting enclave on it; the platform and its root are the same with every one.
            clock: when it is made, if it is made.
            random_bytes: its seed, if it is made.

        Raises:
            UnavailableError: it can neither be read nor made.
            PlatformStateError: what is there is damaged; it is left as it is.
        """
        return cls(open_or_create_platform(state_dir, clock=clock, random_bytes=random_bytes).platform, qe_identity)

    @property
    def name(self) -> str:
        """For logs and metrics."""
        return "simulated"

    @property
    def blocking(self) -> bool:
        """A quote takes some tens of microseconds of CPU and waits for nothing."""
        return False

    @property
    def max_concurrent_calls(self) -> int:
        """It is called inline, one call after the other."""
        return 1

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root certificate's DER, in hex: public, for logs."""
        return self._platform.root_fingerprint

    def identity(self) -> QuotingIdentity:
        """Whom reports must be made for, and the attestation key's id."""
        return QuotingIdentity(self._quoting_enclave.target_info, self._quoting_enclave.pub_key_id)

    def quote_size(self) -> int:
        """The exact size in bytes of every quote."""
        return self._quoting_enclave.quote_size

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> QuoteResult:
        """Check the report's MAC and sign its body.

        Raises:
            QuoteProviderError: INVALID_REPORT if the report was not made for this QE.
        """
        try:
            quote, answer = self._quoting_enclave.quote(report, qe_report_info)
        except ReportRejectedError as error:
            raise QuoteProviderError(
                AesmErrorCode.INVALID_REPORT, error.what, why=error.why, remedy=error.remedy
            ) from error
        return QuoteResult(quote, answer)

    def expiries(self, now: datetime) -> Mapping[Expiring, datetime]:
        """When the PCK certificate ends, and collateral that is exported now."""
        pki = self._platform.pki
        return {
            Expiring.PCK_CERTIFICATE: pki.pck.certificate.not_valid_after_utc,
            Expiring.COLLATERAL: Validity.around(pki.root.certificate.not_valid_before_utc, now).next_update,
        }

    def close(self) -> None:
        """Nothing is held."""
