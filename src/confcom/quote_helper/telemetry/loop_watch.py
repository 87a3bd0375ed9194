"""Measurement of event loop stalls, which delay every client and probe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.05
"""Between measurements: a stall of 50 ms, which nothing may cause, meets at least one. Twenty measurements a second
cost under a thousandth of a CPU."""


async def watch_loop(clock: Callable[[], float], late: Callable[[float], None]) -> None:
    """Sleep repeatedly, and report how many seconds late each wake-up was, until cancelled.

    Args:
        clock: monotonic seconds.
        late: called with the delay of every wake-up. It includes time in which the kernel ran other processes.
    """
    while True:
        due = clock() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        late(max(0.0, clock() - due))
