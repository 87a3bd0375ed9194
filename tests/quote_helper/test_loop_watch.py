import asyncio
import time

from confcom.quote_helper.telemetry.loop_watch import watch_loop


async def test_a_blocked_loop_is_told():
    stalls = []
    told = asyncio.Event()

    def late(seconds):
        stalls.append(seconds)
        told.set()

    watch = asyncio.create_task(watch_loop(time.perf_counter, late))
    await told.wait()
    told.clear()
    time.sleep(0.3)  # noqa: ASYNC251 # this is what is to be noticed
    await told.wait()
    watch.cancel()
    assert max(stalls) >= 0.2
