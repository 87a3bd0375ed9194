import asyncio


async def until(condition, *, pause=0.002, patience=30):
    """Look until it holds: in the file system, at the counts of a server, or for what a timer brings about."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 # of this nothing is told
            await asyncio.sleep(pause)
