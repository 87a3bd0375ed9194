import asyncio
import time


async def until(condition, *, pause=0.002, patience=30):
    """Poll until the condition holds, for changes of files, of a server's counts, or by a timer."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 # of this nothing is told
            await asyncio.sleep(pause)


def wait_until(condition, *, patience=30):
    """`until`, for tests without an event loop."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
