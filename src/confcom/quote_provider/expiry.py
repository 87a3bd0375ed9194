"""What a provider may tell of the dates after which verifiers no longer believe its quotes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Expiring(StrEnum):
    """What expires."""

    PCK_CERTIFICATE = "pck_certificate"
    """The leaf of the chain in every quote."""
    COLLATERAL = "collateral"
    """TCB info, QE identity and revocation lists, as a verifier would be given them now: whichever ends first."""


@runtime_checkable
class ReportsExpiry(Protocol):
    """A QuoteProvider that knows these dates."""

    def expiries(self, now: datetime) -> Mapping[Expiring, datetime]:
        """When each of them ends, as far as it is known: from what is at hand, without waiting, from any thread.

        Args:
            now: the current time (aware).
        """
