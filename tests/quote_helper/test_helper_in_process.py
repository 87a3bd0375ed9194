"""Refused starts, deadlines, limits and stops of a helper, with the code and event loop of the real process."""

import asyncio
import os
import time
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.message_codec import decode_response
from confcom.errors import UnavailableError
from testkit.conditions import until
from testkit.helper_in_process import INIT, NUM, TestProvider, frame


async def connect(running):
    return await asyncio.open_unix_connection(running.socket)


async def end_of(reader):
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_a_backend_that_cannot_be_opened_ends_the_helper(in_process, provider):
    open_backend = Mock(side_effect=UnavailableError("no such platform", error_code="no-such-platform"))
    async with in_process(provider, open_backend=open_backend) as running:
        with pytest.raises(UnavailableError) as caught:
            await running.task
        assert caught.value.error_code == "no-such-platform"
        assert not running.socket.exists()
        assert not running.probe.exists()


# Tests of clients that wait.


async def test_a_half_close_while_the_answer_is_made(in_process, provider):
    release = provider.hold()
    async with in_process(provider) as running:
        reader, writer = await connect(running)
        writer.write(frame(INIT))
        writer.write_eof()
        assert await running.code(NUM) == 0
        release.set()
        assert decode_response((await reader.read())[4:], INIT.kind).error_code == 0
        writer.close()


async def test_an_answer_that_takes_long_has_its_own_deadline(in_process, provider):
    release = provider.hold()
    async with in_process(provider, whole_request_seconds=0.01) as running:
        init = await running.asking(INIT)
        for _ in range(3):
            silent, writer = await connect(running)
            assert await end_of(silent) == b""
            writer.close()
        release.set()
        assert await init == 0


async def test_the_seconds_of_a_request_end_with_its_answer(in_process, waiting_provider):
    began = time.perf_counter()
    async with in_process(waiting_provider) as running:
        await running.ready()
        release = waiting_provider.hold()
        init, asked = await running.asking(INIT), time.perf_counter()
        held = time.perf_counter() - asked
        release.set()
        assert await init == 0
        seconds = running.metric("request_seconds_sum", request="InitQuoteEx", result="success")
        assert held < seconds < time.perf_counter() - began


# Tests of stops.


async def test_a_stop_answers_what_has_arrived_and_nothing_else(in_process, waiting_provider):
    async with in_process(waiting_provider, drain_seconds=1000) as running:
        await running.ready()
        release = waiting_provider.hold()
        waiting = await running.asking(INIT)
        idle, writer = await connect(running)
        half, half_writer = await connect(running)
        half_writer.write(frame(NUM)[:4])
        await running.reaches("connections", 3)
        # Like a container that has the socket mounted, this client needs no path to reach the socket.
        kept = os.open(running.socket, os.O_PATH)
        running.stopping.set()
        await until(lambda: not running.socket.exists())
        await running.unready("stopping")
        half_writer.write(frame(NUM)[4:])
        assert decode_response((await half.read())[4:], NUM.kind).error_code == 0
        half_writer.close()
        assert await end_of(idle) == b""
        assert running.metric("connections_dropped_total", reason="stopping") == 1
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(f"/proc/self/fd/{kept}")
        os.close(kept)
        writer.close()
        release.set()
        assert await waiting == 0
        await running.task


async def test_a_stop_serves_clients_that_found_the_path_before(in_process, provider):
    async with in_process(provider, accept_drain_seconds=1000) as running:
        await running.ready()
        kept = os.open(running.socket, os.O_PATH)
        running.stopping.set()
        await until(lambda: not running.socket.exists())
        await running.unready("stopping")
        late, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{kept}")
        os.close(kept)
        writer.write(frame(NUM))
        assert decode_response((await late.read())[4:], NUM.kind).error_code == 0
        writer.close()
        running.task.cancel()


async def test_a_stop_while_the_provider_is_prepared_answers_30(in_process, provider):
    release = provider.hold()
    limits = {"accept_drain_seconds": 0.05, "provider_wait_seconds": 1000, "drain_seconds": 1000}
    async with in_process(provider, **limits) as running:
        init = await running.asking(INIT)
        running.stopping.set()
        assert await init == AesmErrorCode.SERVICE_UNAVAILABLE
        release.set()


async def test_a_hung_provider_keeps_no_helper_from_stopping(in_process, waiting_provider, caplog):
    async with in_process(waiting_provider, drain_seconds=0.02) as running:
        await running.ready()
        release = waiting_provider.hold()
        reader, writer = await connect(running)
        writer.write(frame(INIT))
        await running.reaches("connections", 1)
        running.stopping.set()
        await running.task
        assert await end_of(reader) == b""
        writer.close()
    release.set()
    assert [record.connections for record in caplog.records if hasattr(record, "connections")] == [1]


@pytest.mark.parametrize(
    ("mark", "serves"),
    [
        pytest.param(0, False, id="all helpers are removed"),
        pytest.param(3600, True, id="a removal that was given up"),
        pytest.param("", True, id="no removal"),
        pytest.param(None, True, id="no file"),
    ],
)
async def test_in_a_removal_no_other_helper_is_waited_for(in_process, provider, short_dir, mark, serves):
    file = short_dir / "removal"
    if mark is not None:
        file.write_text(mark if isinstance(mark, str) else str(int(time.time()) - mark))
    async with in_process(provider, handover_seconds=600, more=("--removal-file", str(file))) as running:
        await running.ready()
        running.stopping.set()
        await running.reaches("ready", 0)
        if serves:
            assert await running.code(INIT) == 0
            running.socket.unlink()
            await until(running.socket.exists)  # the helper makes a new socket there
            file.write_text(str(time.time()))  # too late, as the stop has begun
            running.task.cancel()
        else:
            async with asyncio.timeout(20):
                await running.task
            assert not running.socket.exists()


async def test_who_stops_serves_until_another_has_the_path(in_process, provider, short_dir):
    """The next helper may start only after the stop began, as on a node that was away during an update."""
    async with in_process(provider, handover_seconds=600) as old:
        await old.ready()
        old.stopping.set()
        await old.reaches("ready", 0)
        assert await old.code(INIT) == 0
        old.socket.unlink()
        await until(old.socket.exists)
        (short_dir / "probe").rename(short_dir / "old.probe")
        async with in_process(TestProvider()) as new:
            await new.ready()
            async with asyncio.timeout(20):
                await old.task
            assert await new.code(INIT) == 0
