"""From when until when the collateral of a simulated platform is good.

Apart from the collateral itself, so that whoever only says when it ends need not be able to make it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from confcom.simulation.pki import BACKDATE

VALIDITY = timedelta(days=30)
"""From issue date to next update, as Intel's collateral has it."""

RENEWAL_INTERVAL = VALIDITY / 2
"""Collateral is signed anew at half its life, so that a copy is good for two weeks whenever it was taken."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when collateral is good; whole seconds, aware times."""

    issue_date: datetime
    next_update: datetime

    @classmethod
    def around(cls, origin: datetime, now: datetime) -> Self:
        """The period that `now` falls into.

        Periods follow each other from `origin` on, each as long as the renewal interval. Whoever asks within one
        period gets the same dates, and with deterministic signatures the same bytes: several helpers and exports of
        one platform agree without talking to each other.

        Args:
            origin: when the platform's certificates begin.
            now: the current time.
        """
        start = origin + (now - BACKDATE - origin) // RENEWAL_INTERVAL * RENEWAL_INTERVAL
        return cls(start, start + VALIDITY)
