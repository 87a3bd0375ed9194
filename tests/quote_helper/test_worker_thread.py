import asyncio
import threading

import pytest

from confcom.quote_helper.worker_thread import in_worker_thread
from testkit.programs import run_python


async def test_a_result_or_an_error_comes_from_another_thread():
    assert await in_worker_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await in_worker_thread(lambda: 1 // 0)


@pytest.mark.parametrize("loop_ends", [False, True])
def test_a_result_that_nobody_waits_for_is_discarded(loop_ends):
    release, ended = threading.Event(), threading.Event()

    def call():
        release.wait()
        ended.set()

    async def main():
        in_worker_thread(call).cancel()
        if not loop_ends:
            release.set()
            await asyncio.to_thread(ended.wait)

    asyncio.run(main())
    release.set()
    assert ended.wait(30)


def test_a_call_that_hangs_does_not_keep_the_process():
    program = """
import asyncio, threading
from confcom.quote_helper.worker_thread import in_worker_thread
async def main():
    in_worker_thread(threading.Event().wait).cancel()
asyncio.run(main())
"""
    assert run_python("-c", program).returncode == 0
