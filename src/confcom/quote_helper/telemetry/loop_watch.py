"""How long the event loop is kept from its work: what every client and probe waits beside its own request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.05
"""Between looks: a stall of the 50 ms that nothing may take is met by at least one. Twenty looks a second cost under a
thousandth of a CPU."""


async def watch_loop(clock: Callable[[], float], late: Callable[[float], None]) -> None:
    """Ask to be called at a time, and tell how many seconds later it was, until cancelled.

    Args:
        clock: monotonic seconds.
        late: told of every look. A busy machine counts too: the kernel ran something else.
    """
    while True:
        due = clock() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        late(max(0.0, clock() - due))
