"""A provider that a client's call finds lost: the call is made once more, and the provider is tested at once."""

import asyncio
import threading
import time

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.messages import InitQuoteExRequest
from confcom.quote_helper.quoting.provider_state import Backend
from confcom.quote_provider.base import QuoteProviderError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=32)
LOST = QuoteProviderError(Code.SERVICE_UNAVAILABLE, "it is gone", error_code="aesmd-closed", lost=True)


@pytest.fixture
def events():
    """What began or ended, in order: client calls, and self-tests."""
    return []


@pytest.fixture
def backend(waiting_provider, events):
    """One whose self-test makes no call of the provider, so that all its calls are those of clients."""
    identity = waiting_provider.last_identity
    waiting_provider.before = lambda: events.append("call")

    def self_test():
        events.append("self-test")
        return identity

    return Backend(waiting_provider, self_test, tells_cause=True, in_loop=waiting_provider.in_loop)


def losing(events, times, *, seconds=0.0):
    """Let the first calls take some time and find the provider lost."""

    def call():
        events.append("call")
        if events.count("call") <= times:
            time.sleep(seconds)
            raise LOST

    return call


async def test_the_provider_is_tested_at_once_and_the_call_is_made_again(in_process, backend, events):
    async with in_process(None, open_backend=lambda: backend, self_test_interval_seconds=60) as running:
        await running.ready()
        backend.provider.before = losing(events, 1)
        assert (await running.ask(INIT)).error_code == Code.SUCCESS
        assert events == ["self-test", "call", "self-test", "call"]
        assert await running.metric("confcom_quote_helper_provider_losses_total") == 1


async def test_a_call_is_made_again_once(in_process, backend, events):
    async with in_process(None, open_backend=lambda: backend, self_test_interval_seconds=60) as running:
        await running.ready()
        backend.provider.before = losing(events, 9)
        assert (await running.ask(INIT)).error_code == Code.SERVICE_UNAVAILABLE
        assert events.count("call") == 2


async def test_a_call_that_took_too_long_is_not_made_again(in_process, backend, events):
    limits = {"self_test_interval_seconds": 60, "provider_wait_seconds": 0.05}
    async with in_process(None, open_backend=lambda: backend, **limits) as running:
        await running.ready()
        backend.provider.before = losing(events, 1, seconds=0.1)
        assert (await running.ask(INIT)).error_code == Code.SERVICE_UNAVAILABLE
        assert events.count("call") == 1


async def test_a_self_test_that_began_before_the_loss_proves_nothing(in_process, waiting_provider, events):
    began, release = threading.Event(), threading.Event()
    identity = waiting_provider.last_identity

    def self_test():
        events.append("self-test")
        if events.count("self-test") == 2:
            began.set()
            release.wait()
        return identity

    backend = Backend(waiting_provider, self_test, tells_cause=True, in_loop=waiting_provider.in_loop)
    async with in_process(None, open_backend=lambda: backend, self_test_interval_seconds=0.01) as running:
        await asyncio.to_thread(began.wait)
        waiting_provider.before = losing(events, 1)
        asked = asyncio.create_task(running.ask(INIT))
        await running.eventually(lambda: running.unready_for("aesmd-closed"))
        release.set()
        assert (await asked).error_code == Code.SUCCESS
        lost, again = (index for index, event in enumerate(events) if event == "call")
        assert "self-test" in events[lost:again]


async def test_calls_that_hang_do_not_keep_the_self_test_waiting(in_process, backend, events):
    async with in_process(None, open_backend=lambda: backend, self_test_interval_seconds=0.005) as running:
        await running.ready()
        release = backend.provider.hold()
        hanging = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        tests = events.count("self-test")
        await running.eventually(lambda: asyncio.sleep(0, events.count("self-test") > tests + 2))
        release.set()
        assert (await hanging).error_code == Code.SUCCESS
