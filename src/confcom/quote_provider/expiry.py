"""Optional interface of a quote provider: the dates after which verifiers no longer accept its quotes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Expiring(StrEnum):
    """Kinds of data that expire."""

    PCK_CERTIFICATE = "pck_certificate"
    """The leaf of the certificate chain in every quote."""
    COLLATERAL = "collateral"
    """TCB info, QE identity and revocation lists, as a verifier would get them now: the earliest expiry of these."""


@runtime_checkable
class ReportsExpiry(Protocol):
    """A QuoteProvider that knows these dates."""

    def expiries(self, now: datetime) -> Mapping[Expiring, datetime]:
        """Return the known expiry dates. The call must not block, and may come from any thread.

        Args:
            now: the current time (aware).
        """
