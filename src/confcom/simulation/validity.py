"""Validity period of a simulated platform's collateral.

A module of its own, so that code that only reports the expiry need not import what creates the collateral.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from confcom.simulation.pki import BACKDATE

VALIDITY = timedelta(days=30)
"""Time from issue date to next update, as in Intel's collateral."""

RENEWAL_INTERVAL = VALIDITY / 2
"""Collateral is signed again after half its validity, so that every copy is valid for two weeks or longer."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity period of collateral; whole seconds, aware times."""

    issue_date: datetime
    next_update: datetime

    @classmethod
    def around(cls, origin: datetime, now: datetime) -> Self:
        """Return the validity of collateral made at `now`.

        Issue dates start at `origin` and are one renewal interval apart. All calls within one interval return the same
        dates and, because signatures are deterministic, lead to the same bytes: several helpers and exports of one
        platform agree without communication.
        """
        start = origin + (now - BACKDATE - origin) // RENEWAL_INTERVAL * RENEWAL_INTERVAL
        return cls(start, start + VALIDITY)
