"""The relay's calls in an event loop: the same steps as in a thread, with the same outcomes."""

import asyncio
import errno
import gc
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.quote_provider import aesmd_calls
from confcom.quote_provider.aesmd import AesmdQuoteProvider
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.expected_root import read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report
from confcom.simulation.enclave import SimulatedEnclave
from testkit.raised import raises
from testkit.stub_aesmd import INIT, NO_ANSWER, QUOTE, SIZE, StubAesmd
from testkit.waiting import until

APPLICATION = SimulatedEnclave.from_name("application")
DATA = bytes(range(64))


@pytest.fixture
def aesmd(short_dir):
    platform = SimulatedQuoteProvider.open_or_create(short_dir / "platform")
    stub = StubAesmd(short_dir / "private.socket", platform).start()
    yield stub
    stub.hang.set()
    stub.kill()


@pytest.fixture
def make_relay(short_dir, aesmd):
    root = short_dir / "root.pem"
    root.write_bytes(open_platform(short_dir / "platform").pki.root.pem)
    return lambda seconds=10: AesmdQuoteProvider(aesmd.path, read_expected_root(root), call_seconds=seconds)


class Calls:
    """Calls that are awaited; `close` as the helper does."""

    def __init__(self, relay):
        self._in_loop = relay.in_loop()
        self.close = self._in_loop.close

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.close()

    async def identity(self):
        return await self._ended(self._in_loop.identity)

    async def quote_size(self):
        return await self._ended(self._in_loop.quote_size)

    async def quote(self, report, info=None):
        return await self._ended(lambda done: self._in_loop.quote(report, info, done))

    async def _ended(self, start):
        ended = asyncio.get_running_loop().create_future()
        start(ended.set_result)
        assert not ended.done()  # the caller is not called back before it knows that it has called
        return (await ended)()


async def test_identity_size_and_quote_are_the_upstreams(make_relay, aesmd):
    async with Calls(make_relay()) as calls:
        identity = await calls.identity()
        assert identity == aesmd.provider.identity()
        assert await calls.quote_size() == aesmd.provider.quote_size()
        info = QeReportInfo(b"sixteen bytes!!!", APPLICATION.target_info(), bytes(432))
        report = APPLICATION.create_report(identity.target_info, DATA)
        for _ in range(2):
            result = await calls.quote(report, info)
            assert Quote.parse(result.quote).body.report_data == DATA
            assert APPLICATION.verify_report(Report.parse(result.qe_report_info.qe_report))
    assert aesmd.asked == [INIT, SIZE, QUOTE, QUOTE]


async def test_a_restarted_one_is_initialised_without_the_client(make_relay, aesmd):
    async with Calls(make_relay()) as calls:
        report = APPLICATION.create_report((await calls.identity()).target_info, DATA)
        await calls.quote(report)
        aesmd.kill()
        aesmd.start()
        aesmd.asked.clear()
        assert (await calls.quote(report)).quote
        assert aesmd.asked == [QUOTE, INIT, SIZE, QUOTE]


async def test_refusals_and_useless_quotes_are_told(make_relay, aesmd):
    async with Calls(make_relay()) as calls:
        report = APPLICATION.create_report((await calls.identity()).target_info, DATA)
        with raises("aesm-invalid-report", QuoteProviderError):
            await calls.quote(APPLICATION.create_report(APPLICATION.target_info(), DATA))
        aesmd.altered = lambda quote: quote[:8] + bytes([quote[8] ^ any(quote)]) + quote[9:]
        with raises("quote-not-signed", QuoteProviderError):
            await calls.quote(report)
        aesmd.codes = {QUOTE: Code.NO_PLATFORM_CERT_DATA}
        with raises("aesm-no-platform-cert-data", QuoteProviderError):
            await calls.quote(report)


@pytest.mark.parametrize(("trouble", "error_code"), NO_ANSWER)
async def test_one_that_does_not_answer_is_lost(make_relay, aesmd, trouble, error_code):
    aesmd.cause(trouble)
    relay = make_relay(0.3 if trouble == "hang" else 10)
    async with Calls(relay) as calls:
        with raises(error_code, QuoteProviderError, "why", "remedy") as caught:
            await calls.identity()
    assert (caught.value.code, caught.value.lost, relay.lost) == (Code.SERVICE_UNAVAILABLE, True, True)


async def test_a_full_backlog_is_waited_for(make_relay, aesmd):
    aesmd.kill()
    aesmd.path.unlink()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(aesmd.path))
        listener.listen(0)
        other.connect(str(aesmd.path))
        async with Calls(make_relay()) as calls:
            waiting = asyncio.create_task(calls.identity())
            await asyncio.sleep(0.1)
            assert not waiting.done()
            listener.accept()[0].close()
            threading.Thread(target=aesmd._serve, args=(listener,), daemon=True).start()
            assert await waiting == aesmd.provider.identity()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def replace_sockets(monkeypatch):
    """Give the calls another kind of sockets."""
    constants = {name: getattr(socket, name) for name in ("AF_UNIX", "SOCK_STREAM", "SOCK_NONBLOCK")}
    return lambda kind: monkeypatch.setattr(aesmd_calls, "socket", SimpleNamespace(SocketType=kind, **constants))


async def test_without_a_descriptor_a_call_ends_and_the_next_one_is_made(make_relay, aesmd, replace_sockets):
    def refuse(*_):
        raise OSError(errno.EMFILE, "no descriptor")

    async with Calls(make_relay()) as calls:
        replace_sockets(refuse)
        with pytest.raises(OSError, match="no descriptor"):
            await calls.identity()
        replace_sockets(socket.SocketType)
        assert await calls.identity() == aesmd.provider.identity()


async def test_what_the_kernel_does_not_take_at_once_is_sent_later(make_relay, aesmd, replace_sockets):
    class Narrow(socket.SocketType):
        full = False

        def send(self, data):
            self.full = not self.full
            if not self.full:
                raise BlockingIOError
            return super().send(data[:100])

    replace_sockets(Narrow)
    async with Calls(make_relay()) as calls:
        report = APPLICATION.create_report((await calls.identity()).target_info, DATA)
        assert (await calls.quote(report)).quote


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_closing_breaks_off_calls_and_keeps_no_descriptor(make_relay, aesmd):
    gc.collect()
    before = open_descriptors()
    aesmd.hang.clear()
    calls, told = make_relay().in_loop(), []
    calls.identity(told.append)
    calls.identity(told.append)
    await until(lambda: len(aesmd.asked) == 2)
    calls.close()
    aesmd.hang.set()
    await until(lambda: open_descriptors() <= before)
    assert not told


async def test_closing_tells_nobody_of_a_call_that_ended_at_its_start(make_relay, aesmd):
    aesmd.kill()
    calls, told = make_relay().in_loop(), []
    calls.identity(told.append)
    calls.close()
    await asyncio.sleep(0.01)
    assert not told


async def test_a_call_that_ended_leaves_nothing_to_the_garbage_collector(make_relay, aesmd):
    async with Calls(make_relay()) as calls:
        gc.collect()
        gc.disable()
        try:
            await calls.identity()
            await asyncio.sleep(0)
            assert not [left for left in gc.get_objects() if isinstance(left, aesmd_calls._Call)]
        finally:
            gc.enable()
