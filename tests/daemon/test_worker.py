import asyncio
import threading

import pytest

from confcom.daemon.logs import LogLimiter
from confcom.daemon.worker import Worker
from testkit.programs import run_python


@pytest.fixture
def worker():
    worker = Worker("w")
    yield worker
    worker.close()


async def test_calls_run_in_order_in_one_other_thread(worker):
    threads, order = set(), []

    def call(number):
        threads.add(threading.current_thread())
        order.append(number)
        return number * 2

    assert await asyncio.gather(*(worker.submit(lambda n=n: call(n)) for n in range(10))) == [n * 2 for n in range(10)]
    assert order == list(range(10))
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    worker.close()
    threads.pop().join(10)


async def test_what_a_call_raises_reaches_its_caller(worker):
    with pytest.raises(ZeroDivisionError):
        await worker.submit(lambda: 1 // 0)
    assert await worker.submit(lambda: 7) == 7


async def test_a_cancelled_wait_only_throws_the_result_away(worker):
    release = threading.Event()
    future = worker.submit(release.wait)
    future.cancel()
    release.set()
    assert await worker.submit(lambda: "next") == "next"


def test_a_result_after_the_loops_end_is_thrown_away(worker):
    release, done = threading.Event(), threading.Event()

    async def main():
        worker.submit(release.wait).cancel()

    asyncio.run(main())
    release.set()

    async def later():
        worker.submit(done.set)
        await asyncio.to_thread(done.wait)

    asyncio.run(later())


async def test_a_closed_worker_runs_what_was_queued(worker):
    queued = worker.submit(lambda: 7)
    worker.close()
    with pytest.raises(RuntimeError):
        worker.submit(lambda: 8)
    assert await queued == 7


def test_a_call_that_hangs_does_not_keep_the_process():
    program = """
import asyncio, threading
from confcom.daemon.worker import Worker
async def main():
    Worker("w").submit(threading.Event().wait).cancel()
asyncio.run(main())
"""
    assert run_python("-c", program).returncode == 0


def test_log_limiter_lets_one_through_and_counts_the_rest():
    now = 100.0
    limiter = LogLimiter(60.0, lambda: now)
    assert limiter.admit() == 0
    assert [limiter.admit() for _ in range(3)] == [None] * 3
    now += 60
    assert limiter.admit() == 3
    assert limiter.admit() is None
    now += 61
    assert limiter.admit() == 1
