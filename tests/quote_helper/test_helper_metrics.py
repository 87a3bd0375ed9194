import asyncio
import itertools

import pytest

from confcom.quote_helper.metrics import LOOP_LOOK_SECONDS, watch_loop


async def test_a_blocked_loop_is_told():
    times = itertools.chain([0.0, LOOP_LOOK_SECONDS + 0.25], itertools.repeat(1.0))
    stalls = asyncio.Queue()
    watch = asyncio.create_task(watch_loop(lambda: next(times), stalls.put_nowait))
    assert await stalls.get() == pytest.approx(0.25)
    assert await stalls.get() == 0
    watch.cancel()
