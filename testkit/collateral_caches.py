"""Caches of collateral for tests, with a clock of their own, below the lab's simulated root."""

import threading
from datetime import timedelta

from confcom.collateral import CollateralCache, Source
from testkit.verify.td_lab import TdxLab
from testkit.verify.verify_lab import NOW, Lab

LAB = Lab()
EVIDENCE = LAB.evidence()
TD_QUOTE, FOR_TDX = TdxLab().quote(), TdxLab().collateral()
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
EXPIRES = EVIDENCE.collateral.expires
HALF = EXPIRES - 15 * DAY
NEWER = LAB.collateral(EXPIRES - DAY)


class Clock:
    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


def no_jitter():
    return 0.0


def cache_of(directory, url, clock, **options):
    source = url if isinstance(url, Source) else Source(url)
    return CollateralCache(
        directory, source, **({"root": EVIDENCE.trusted, "clock": clock, "jitter": no_jitter} | options)
    )


def settle():
    """Wait for all renewals that run beside their callers."""
    for thread in threading.enumerate():
        if thread.name == "confcom-collateral":
            thread.join(50)
