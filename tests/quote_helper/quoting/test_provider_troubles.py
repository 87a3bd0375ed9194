import asyncio
import threading
import time
from itertools import chain, repeat
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.messages import AesmQuote
from confcom.quote_helper.quoting.simulated_backend import open_simulated
from confcom.quote_provider.base import Backend, QuoteProviderError
from confcom.quote_provider.state_directory import ROOT_FOLDER
from confcom.simulation.root_seed import RootSeed
from testkit.conditions import until
from testkit.helper_in_process import INIT, NUM, SIZE, frame

QUICK = {"self_test_interval_seconds": 0.005}
RARE = {"self_test_interval_seconds": 3600.0}


class Panic(BaseException):
    """A panic of a Rust library. Python gets pyo3's PanicException, which is no subclass of Exception."""


def failures(caplog):
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


# Tests of the time before the first self-test passes.


@pytest.mark.parametrize("crash", [None, ZeroDivisionError])
async def test_one_that_cannot_quote_yet_is_tried_again(in_process, provider, not_yet, caplog, crash):
    times = 1 if crash else 3
    provider.before = Mock(side_effect=chain([crash or not_yet] * times, repeat(None)))
    async with in_process(provider) as running:
        await running.ready()
        assert provider.calls > times
        assert await running.code(INIT) == 0
    assert failures(caplog) == ([crash] if crash else [])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(lambda quote: quote + b"\0", "quote-wrong-size", id="too long"),
        pytest.param(
            lambda quote: quote[:500] + bytes([quote[500] ^ 1]) + quote[501:], "quote-of-another-key", id="key"
        ),
    ],
)
async def test_a_wrong_self_test_quote_is_no_readiness(in_process, provider, change, code):
    make = provider.quote
    provider.quote = lambda report, info: AesmQuote(change(make(report, info).quote), None)
    async with in_process(provider, self_test_retry_seconds=(60,)) as running:
        await running.unready(code)


@pytest.mark.parametrize("created", [0, 4_000_000_000], ids=["expired", "not valid yet"])
async def test_an_expired_simulated_root_is_no_readiness(in_process, short_dir, created):
    folder = short_dir / "state" / ROOT_FOLDER
    folder.mkdir(parents=True)
    for name, value in RootSeed(bytes(32), created).encode().items():
        (folder / name).write_bytes(value)
    async with in_process(None, open_backend=lambda _: open_simulated(folder.parent)) as running:
        await running.unready("quote-broken-chain")
        assert "is not valid at" in (await running.get("/readyz"))[1]
        assert await running.code(INIT) == Code.ATT_KEY_CERT_DATA_INVALID


# Tests of failures.


@pytest.mark.parametrize("error", [None, ZeroDivisionError, Panic])
async def test_one_that_raises_harms_only_its_requests(in_process, either, not_yet, caplog, error):
    async with in_process(either, **RARE) as running:
        await running.ready()
        either.fail(error or not_yet)
        codes = set(await asyncio.gather(*(running.code(INIT) for _ in range(20))))
        assert codes == {Code.UNEXPECTED_ERROR if error else not_yet.code}
        either.work()
        assert await running.code(INIT) == 0
    assert failures(caplog) == ([error] if error else [])


@pytest.mark.parametrize("error", [None, Panic])
async def test_a_lost_provider_is_noticed_and_so_is_its_return(in_process, either, not_yet, error):
    async with in_process(either, **QUICK) as running:
        await running.ready()
        either.fail(error or not_yet)
        await running.reaches("provider_losses_total", 1)
        await running.unready("self-test-failed" if error else not_yet.error_code)
        assert (await running.get("/livez"))[0] == 200
        waiting = asyncio.create_task(running.code(SIZE))
        await running.reaches("waiting", 1)
        assert await running.code(NUM) == 0
        assert not waiting.done()
        either.work()
        assert await waiting == 0
        await running.ready()
        assert running.metric("provider_losses_total") == 1


# Tests of calls that wait.


@pytest.mark.parametrize("most", [1, 3])
async def test_it_gets_as_many_calls_at_once_as_it_supports(in_process, waiting_provider, most):
    waiting_provider.max_concurrent_calls = most
    async with in_process(waiting_provider, **RARE) as running:
        await running.ready()
        release, before = waiting_provider.hold(), waiting_provider.calls
        clients = [asyncio.create_task(running.code(SIZE)) for _ in range(2 * most)]
        await running.reaches("connections", 2 * most)
        await running.reaches("waiting", most)
        await until(lambda: waiting_provider.calls == before + most)
        release.set()
        assert await asyncio.gather(*clients) == [0] * 2 * most


async def test_a_dead_clients_request_takes_no_place(in_process, waiting_provider):
    async with in_process(waiting_provider) as running:
        await running.ready()
        release = waiting_provider.hold()
        calls = waiting_provider.calls
        first = await running.asking(SIZE)
        await until(lambda: waiting_provider.calls == calls + 1)
        _, dying = await asyncio.open_unix_connection(running.socket)
        dying.write(frame(SIZE))
        await running.reaches("waiting", 1)
        dying.close()
        await running.reaches("waiting", 0)
        await running.reaches("connections_dropped_total", 1, reason="gone")
        release.set()
        assert await first == 0
        assert await running.code(SIZE) == 0
        assert waiting_provider.calls == calls + 2


async def test_a_hung_one_means_busy_for_others(in_process, waiting_provider):
    limits = {"provider_wait_seconds": 0.02, "drain_seconds": 0.05}
    async with in_process(waiting_provider, **limits) as running:
        await running.ready()
        release = waiting_provider.hold()
        hanging = await running.asking(INIT)
        assert await running.code(SIZE) == Code.BUSY
        assert await running.code(NUM) == 0
        release.set()
        assert await hanging == 0
        while await running.code(SIZE) != 0:
            pass


async def test_one_that_hangs_is_lost_and_takes_nothing_with_it(in_process, waiting_provider):
    async with in_process(waiting_provider, self_test_seconds=0.3, **QUICK) as running:
        await running.ready()
        release = waiting_provider.hold()
        await running.unready("provider-hangs")
        assert await running.code(NUM) == 0
        assert (await running.get("/livez"))[0] == 200
        release.set()
        await running.ready()
        assert await running.code(SIZE) == 0


# If a call finds the provider lost, the helper repeats the call once, and starts a self-test at once.


LOST = QuoteProviderError(Code.SERVICE_UNAVAILABLE, "it is gone", error_code="aesmd-closed", lost=True)


@pytest.fixture
def events():
    """Client calls and self-tests in the order of their beginnings."""
    return []


@pytest.fixture
def backend(waiting_provider, events):
    """A backend whose self-test never calls the provider, so that only clients cause provider calls."""
    identity = waiting_provider.last_identity
    waiting_provider.before = lambda: events.append("call")

    def self_test():
        events.append("self-test")
        return identity

    return Backend(waiting_provider, self_test, in_loop=waiting_provider.in_loop)


def losing(events, times, *, seconds=0.0):
    """A provider call whose first `times` runs take `seconds` each, and then find the provider lost."""

    def call():
        events.append("call")
        if events.count("call") <= times:
            time.sleep(seconds)
            raise LOST

    return call


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((1, {}, 0, ["self-test", "call", "self-test", "call"]), id="made again"),
        pytest.param((9, {}, 30, ["call"] * 2), id="made again once"),
        pytest.param((1, {"provider_wait_seconds": 0.05}, 30, ["call"]), id="not if it took long"),
    ],
)
async def test_a_call_that_finds_it_lost(in_process, backend, events, case):
    losses, limits, code, expected = case
    async with in_process(None, open_backend=lambda _: backend, **RARE | limits) as running:
        await running.ready()
        backend.provider.before = losing(events, losses, seconds=0.1 if limits else 0.0)
        assert await running.code(INIT) == code
        assert [event for event in events if event in expected] == expected
        assert running.metric("provider_losses_total") >= 1


async def test_a_self_test_that_began_before_the_loss_proves_nothing(in_process, backend, events):
    began, release = threading.Event(), threading.Event()
    identity = backend.provider.last_identity

    def self_test():
        events.append("self-test")
        if events.count("self-test") == 2:
            began.set()
            release.wait()
        return identity

    slow = Backend(backend.provider, self_test, in_loop=backend.in_loop)
    async with in_process(None, open_backend=lambda _: slow, self_test_interval_seconds=0.01) as running:
        await asyncio.to_thread(began.wait)
        backend.provider.before = losing(events, 1)
        asked = asyncio.create_task(running.code(INIT))
        await running.unready("aesmd-closed")
        release.set()
        assert await asked == 0
        lost, again = (index for index, event in enumerate(events) if event == "call")
        assert "self-test" in events[lost:again]


async def test_requests_that_wait_get_a_cause_that_becomes_known(in_process, backend):
    known, unknown = asyncio.Event(), Mock(side_effect=LOST)

    def self_test():
        if known.is_set():
            raise QuoteProviderError(Code.NO_PLATFORM_CERT_DATA, "no certificate")
        return unknown()

    failing = Backend(backend.provider, self_test, in_loop=backend.in_loop)
    async with in_process(None, open_backend=lambda _: failing) as running:
        await running.unready("aesmd-closed")
        waiting = [await running.asking(ask) for ask in (INIT, SIZE)]
        await running.reaches("waiting", 2)
        known.set()
        assert await asyncio.gather(*waiting) == [Code.NO_PLATFORM_CERT_DATA] * 2
        assert await running.code(NUM) == 0


async def test_calls_that_hang_do_not_keep_the_self_test_waiting(in_process, backend, events):
    async with in_process(None, open_backend=lambda _: backend, **QUICK) as running:
        await running.ready()
        release = backend.provider.hold()
        hanging = await running.asking(INIT)
        tests = events.count("self-test")
        await until(lambda: events.count("self-test") > tests + 2)
        release.set()
        assert await hanging == 0
