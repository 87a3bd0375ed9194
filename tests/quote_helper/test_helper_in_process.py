"""Providers that block, fail, hang and start late; deadlines and caps. Same code and loop as the real process."""

import asyncio
import os
import socket
from itertools import chain, repeat
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import (
    GetQuoteSizeExRequest,
    GetSupportedAttKeyIdNumRequest,
    GetSupportedAttKeyIdsRequest,
    InitQuoteExRequest,
    SelectAttKeyIdRequest,
)
from confcom.errors import UnavailableError
from confcom.quote_provider.base import QuoteResult
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

KEY_ID = ECDSA_P256_KEY_ID.encode()
INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY_ID, buf_size=32)
SIZE = GetQuoteSizeExRequest(att_key_id=KEY_ID)
NUM = GetSupportedAttKeyIdNumRequest()
AT_ONCE = [NUM, GetSupportedAttKeyIdsRequest(256), SelectAttKeyIdRequest(), InitQuoteExRequest(False, KEY_ID)]
DROPPED = 'confcom_quote_helper_connections_dropped_total{{reason="{}"}}'


async def connect(running):
    return await asyncio.open_unix_connection(running.socket)


def failures(caplog):
    """The exceptions that were logged."""
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


async def end_of(reader):
    """What comes until the connection ends, however it ends."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_while_the_provider_is_prepared_num_ids_and_select_answer_and_init_waits(in_process, provider):
    opened = provider.hold()
    async with in_process(provider) as running:
        init = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections_accepted_total", 1)
        for request in AT_ONCE:
            assert (await running.ask(request)).error_code == 0
        assert (await running.get("/readyz"))[0] == 503
        assert await running.unready_for("provider-preparing")
        assert not init.done()
        opened.set()
        assert (await init).error_code == 0
        await running.ready()


@pytest.mark.parametrize("crash", [None, ZeroDivisionError])
async def test_a_provider_that_cannot_quote_yet_is_tried_again(in_process, provider, not_yet, caplog, crash):
    times = 1 if crash else 3
    provider.before = Mock(side_effect=chain([crash or not_yet] * times, repeat(None)))
    async with in_process(provider) as running:
        await running.ready()
        assert await running.metric("confcom_quote_helper_self_tests_failed_total") == times
        assert await running.metric("confcom_quote_helper_ready") == 1
        assert (await running.ask(INIT)).error_code == 0
    assert failures(caplog) == ([crash] if crash else [])


async def test_the_reason_for_not_being_ready_is_told(in_process, provider, not_yet):
    provider.fail(not_yet)
    async with in_process(provider, self_test_retry_seconds=(60,)) as running:
        await running.metric_reaches("confcom_quote_helper_self_tests_failed_total", 1)
        assert await running.unready_for("self-test-failed")
        assert await running.get("/readyz") == (503, f"not ready: {not_yet}\n")
        assert (await running.get("/livez"))[0] == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda quote: quote + b"\0",
        lambda quote: quote[:-1],
        lambda quote: quote[:48] + bytes([quote[48] ^ 1]) + quote[49:],
        lambda quote: quote[:500] + bytes([quote[500] ^ 1]) + quote[501:],
    ],
    ids=["too long", "cut", "another report", "another key"],
)
async def test_a_wrong_self_test_quote_is_no_readiness(in_process, provider, change):
    make = provider.quote
    provider.quote = lambda report, info: QuoteResult(change(make(report, info).quote), None)
    async with in_process(provider, self_test_retry_seconds=(60,)) as running:
        await running.metric_reaches("confcom_quote_helper_self_tests_failed_total", 1)
        assert (await running.get("/readyz"))[0] == 503
        assert await running.unready_for("self-test-failed")


async def test_a_backend_that_cannot_be_opened_ends_the_helper(in_process, provider):
    open_backend = Mock(side_effect=UnavailableError("no such platform", error_code="no-such-platform"))
    async with in_process(provider, open_backend=open_backend) as running:
        with pytest.raises(UnavailableError) as caught:
            await running.task
        assert caught.value.error_code == "no-such-platform"
        assert not running.socket.exists()
        assert not running.probe.exists()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_provider_that_raises_harms_only_its_request(in_process, provider, not_yet, waits, caplog):
    provider.waits = waits
    async with in_process(provider) as running:
        await running.ready()
        provider.fail(not_yet)
        assert (await running.ask(SIZE)).error_code == AesmErrorCode.ENCLAVE_LOAD_ERROR
        provider.fail(ZeroDivisionError)
        for _ in range(5):
            assert (await running.ask(SIZE)).error_code == AesmErrorCode.UNEXPECTED_ERROR
        provider.work()
        assert (await running.ask(SIZE)).error_code == 0
    assert failures(caplog) == [ZeroDivisionError]


async def test_a_waiting_provider_never_delays_the_others(in_process, waiting_provider):
    async with in_process(waiting_provider) as running:
        await running.ready()
        release = waiting_provider.hold()
        waiting = [asyncio.create_task(running.ask(INIT)) for _ in range(5)]
        await running.metric_reaches("confcom_quote_helper_connections", 5)
        for request in AT_ONCE:
            assert (await running.ask(request)).error_code == 0
        assert (await running.get("/readyz"))[0] == 200
        release.set()
        assert [(await one).error_code for one in waiting] == [0] * 5


async def test_a_hung_provider_means_busy_for_others_and_30_for_whom_it_hangs(in_process, waiting_provider):
    async with in_process(
        waiting_provider, provider_wait_seconds=0.02, call_seconds=0.2, drain_seconds=0.05
    ) as running:
        await running.ready()
        release = waiting_provider.hold()
        hanging = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        assert (await running.ask(SIZE)).error_code == AesmErrorCode.BUSY
        assert (await hanging).error_code == AesmErrorCode.SERVICE_UNAVAILABLE
        assert (await running.ask(SIZE)).error_code == AesmErrorCode.BUSY
        assert (await running.ask(NUM)).error_code == 0
        release.set()

        async def is_served():
            return (await running.ask(SIZE)).error_code == 0

        await running.eventually(is_served)


async def test_a_hung_provider_does_not_keep_the_helper_from_stopping(in_process, waiting_provider, caplog):
    async with in_process(waiting_provider, drain_seconds=0.02) as running:
        await running.ready()
        release = waiting_provider.hold()
        hanging = asyncio.create_task(end_of_request(running, INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        running.stopping.set()
        await running.task
        assert await hanging == b""
    release.set()
    assert [record.connections for record in caplog.records if hasattr(record, "connections")] == [1]


async def end_of_request(running, request):
    reader, writer = await connect(running)
    writer.write(encode_frame(encode_request(request)))
    answer = await end_of(reader)
    writer.close()
    return answer


async def test_a_stop_answers_requests_in_flight(in_process, waiting_provider):
    async with in_process(waiting_provider) as running:
        await running.ready()
        release = waiting_provider.hold()
        waiting = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        running.stopping.set()
        await running.eventually(lambda: asyncio.to_thread(lambda: not running.socket.exists()))
        assert (await running.get("/readyz"))[0] == 503
        assert await running.unready_for("stopping")
        release.set()
        assert (await waiting).error_code == 0
        await running.task


async def test_a_stop_ends_what_has_no_request_and_what_comes_after(in_process, waiting_provider):
    async with in_process(waiting_provider, drain_seconds=1000) as running:
        await running.ready()
        release = waiting_provider.hold()
        waiting = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        idle, writer = await connect(running)
        await running.metric_reaches("confcom_quote_helper_connections", 2)
        # As a container reaches a socket that was mounted into it, whatever becomes of the path.
        kept = os.open(running.socket, os.O_PATH)
        running.stopping.set()
        assert await end_of(idle) == b""
        assert await running.metric(DROPPED.format("stopping")) == 1
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(f"/proc/self/fd/{kept}")
        os.close(kept)
        writer.close()
        release.set()
        assert (await waiting).error_code == 0
        await running.task


async def test_a_half_close_while_the_answer_is_made(in_process, provider):
    release = provider.hold()
    async with in_process(provider) as running:
        reader, writer = await connect(running)
        writer.write(encode_frame(encode_request(INIT)))
        writer.write_eof()
        assert (await running.ask(NUM)).error_code == 0
        release.set()
        answer = decode_response((await reader.read())[4:], INIT.kind)
        assert answer.error_code == 0
        writer.close()


async def test_a_stop_while_the_provider_is_prepared_answers_30(in_process, provider):
    release = provider.hold()
    async with in_process(
        provider, accept_drain_seconds=0.05, provider_wait_seconds=1000, drain_seconds=1000
    ) as running:
        init = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        running.stopping.set()
        assert (await init).error_code == AesmErrorCode.SERVICE_UNAVAILABLE
        release.set()


async def test_an_answer_that_takes_long_has_a_deadline_of_its_own(in_process, provider):
    release = provider.hold()
    async with in_process(provider, first_byte_seconds=0.01) as running:
        init = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        for _ in range(3):
            silent, writer = await connect(running)
            assert await end_of(silent) == b""
            writer.close()
        release.set()
        assert (await init).error_code == 0


async def test_over_the_cap_the_longest_waiting_goes_and_answers_in_progress_stay(in_process, waiting_provider):
    async with in_process(waiting_provider, max_connections=3) as running:
        await running.ready()
        release = waiting_provider.hold()
        answering = asyncio.create_task(running.ask(INIT))
        await running.metric_reaches("confcom_quote_helper_connections", 1)
        idle = [await connect(running) for _ in range(2)]
        await running.metric_reaches("confcom_quote_helper_connections", 3)
        assert (await running.ask(NUM)).error_code == 0
        assert await end_of(idle[0][0]) == b""
        assert await running.metric(DROPPED.format("shed")) == 1
        await running.metric_reaches("confcom_quote_helper_connections", 2)
        release.set()
        assert (await answering).error_code == 0
        for _, writer in idle:
            writer.close()


async def test_a_client_that_waits_and_goes_on_sending_is_not_read(in_process, provider):
    release = provider.hold()

    def fill(client):
        sent = 0
        try:
            while True:
                sent += client.send(bytes(65536))
        except BlockingIOError:
            return sent

    async with in_process(provider) as running:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(running.socket))
            client.sendall(encode_frame(encode_request(INIT)))
            await running.metric_reaches("confcom_quote_helper_connections", 1)
            client.setblocking(False)
            fill(client)
            assert (await running.ask(NUM)).error_code == 0
            fill(client)
            for _ in range(10):
                assert (await running.ask(NUM)).error_code == 0
            assert fill(client) == 0
        release.set()
        await running.ready()
