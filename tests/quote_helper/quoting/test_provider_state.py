"""A provider that is slow, hangs, fails, comes back and changes its identity: what is told, and who waits."""

import asyncio
import gc
import threading

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import GetQuoteSizeExRequest, GetSupportedAttKeyIdNumRequest
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

SIZE = GetQuoteSizeExRequest(att_key_id=ECDSA_P256_KEY_ID.encode())
NUM = GetSupportedAttKeyIdNumRequest()
STATE = 'confcom_quote_helper_provider_state{{state="{}"}}'


@pytest.mark.parametrize("waits", [False, True])
async def test_a_lost_provider_is_noticed_and_so_is_its_return(in_process, provider, not_yet, waits):
    provider.waits = waits
    async with in_process(provider, self_test_interval_seconds=0.005) as running:
        await running.ready()
        assert await running.metric(STATE.format("ready")) == 1
        provider.fail(not_yet)
        await running.metric_reaches(STATE.format("lost"), 1)
        assert await running.metric(STATE.format("ready")) == 0
        assert (await running.get("/readyz"))[0] == 503
        assert await running.unready_for("self-test-failed")
        assert (await running.get("/livez"))[0] == 200
        waiting = asyncio.create_task(running.ask(SIZE))
        await running.metric_reaches("confcom_quote_helper_waiting", 1)
        assert (await running.ask(NUM)).error_code == 0
        assert not waiting.done()
        provider.work()
        assert (await waiting).error_code == 0
        await running.ready()
        assert await running.metric("confcom_quote_helper_provider_losses_total") == 1


async def test_what_waits_for_a_lost_provider_in_vain_is_answered_30(in_process, provider, not_yet):
    async with in_process(provider, self_test_interval_seconds=0.005, provider_wait_seconds=0.02) as running:
        await running.ready()
        provider.fail(not_yet)
        await running.metric_reaches(STATE.format("lost"), 1)
        assert (await running.ask(SIZE)).error_code == AesmErrorCode.SERVICE_UNAVAILABLE


async def test_a_provider_that_hangs_is_lost_and_takes_nothing_with_it(in_process, waiting_provider):
    limits = {"self_test_interval_seconds": 0.005, "self_test_seconds": 0.05}
    async with in_process(waiting_provider, **limits) as running:
        await running.ready()
        release = waiting_provider.hold()
        await running.metric_reaches(STATE.format("lost"), 1)
        assert await running.unready_for("provider-hangs")
        assert (await running.ask(NUM)).error_code == 0
        calls = waiting_provider.calls
        assert (await running.get("/livez"))[0] == 200
        release.set()
        await running.ready()
        assert waiting_provider.calls >= calls
        assert (await running.ask(SIZE)).error_code == 0


async def test_a_self_test_that_fails_while_the_helper_stops_is_no_news(in_process, waiting_provider, not_yet, caplog):
    entered, release = threading.Event(), threading.Event()

    def fail_late():
        entered.set()
        release.wait()
        raise not_yet

    async with in_process(waiting_provider, self_test_interval_seconds=0.005) as running:
        await running.ready()
        waiting_provider.before = fail_late
        await asyncio.to_thread(entered.wait)
        running.stopping.set()
        await running.task
        (self_test,) = [one for one in threading.enumerate() if one.name == "quote-provider"]
        release.set()
        await asyncio.to_thread(self_test.join)
        await asyncio.sleep(0)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("most", [1, 3])
async def test_a_provider_gets_as_many_calls_at_once_as_it_supports(in_process, waiting_provider, most):
    waiting_provider.max_concurrent_calls = most
    inside, seen = 0, []
    lock = threading.Lock()
    full = threading.Barrier(most, action=lambda: seen.append(inside))

    def before():
        nonlocal inside
        with lock:
            inside += 1
        full.wait(20)
        with lock:
            inside -= 1

    async with in_process(waiting_provider) as running:
        await running.ready()
        waiting_provider.before = before
        answers = await asyncio.gather(*(running.ask(SIZE) for _ in range(2 * most)))
        assert [answer.error_code for answer in answers] == [0] * 2 * most
        waiting_provider.work()
    # Each barrier opens only when `most` calls are inside at once.
    assert len(seen) == 2
    assert max(seen) <= most


async def test_a_dead_clients_request_takes_no_place(in_process, waiting_provider):
    entered, release = threading.Event(), threading.Event()

    def before():
        entered.set()
        release.wait()

    async with in_process(waiting_provider) as running:
        await running.ready()
        waiting_provider.before = before
        first = asyncio.create_task(running.ask(SIZE))
        await asyncio.to_thread(entered.wait)
        _, dying = await asyncio.open_unix_connection(running.socket)
        dying.write(encode_frame(encode_request(SIZE)))
        await running.metric_reaches("confcom_quote_helper_waiting", 1)
        dying.close()
        await running.metric_reaches("confcom_quote_helper_waiting", 0)
        await running.metric_reaches('confcom_quote_helper_connections_dropped_total{reason="gone"}', 1)
        calls = waiting_provider.calls
        release.set()
        assert (await first).error_code == 0
        assert (await running.ask(SIZE)).error_code == 0
        assert waiting_provider.calls == calls + 1
