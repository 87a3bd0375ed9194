import asyncio
import time


async def until(condition, *, pause=0.002, patience=30):
    """Poll until the condition holds. Use this for changes that no event reports, such as those of files."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 # no event reports the change
            await asyncio.sleep(pause)


def wait_until(condition, *, patience=30):
    """Like `until`, but for tests without an event loop."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
