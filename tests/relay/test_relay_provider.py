import asyncio
import errno
import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.error_code import code_of
from confcom.aesm.request_checks import NeedIdentity, NeedQuote, NeedQuoteSize
from confcom.client import asynchronous
from confcom.errors import ConfcomError, SettingsError
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError
from confcom.quote_provider.expected_root import INTEL_ROOT, read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.relay.instance import AesmdRuns
from confcom.relay.provider import AesmdQuoteProvider
from confcom.sgx.certification import CertificationData
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report
from confcom.simulation.enclave import ReportChecker, SimulatedEnclave
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.conditions import until, wait_until
from testkit.expected_errors import raises
from testkit.hardware_causes import CAUSES
from testkit.helper_in_process import open_descriptors
from testkit.passing_descriptors import LingeringSockets, pass_descriptors
from testkit.stub_aesmd import INIT, NO_ANSWER, QUOTE, SIZE, Run

APPLICATION = SimulatedEnclave.from_name("application")
DATA = bytes(range(64))
IDENTITY = NeedIdentity()


class InLoop:
    """A relay whose calls run in an event loop, as the helper runs its clients' calls."""

    def __init__(self, relay):
        self.relay = relay

    def __getattr__(self, name):
        return getattr(self.relay, name)

    def identity(self):
        return asyncio.run(self._made(IDENTITY))()

    def quote_size(self):
        return asyncio.run(self._made(NeedQuoteSize()))()

    def quote(self, report, qe_report_info):
        return asyncio.run(self._made(NeedQuote(report, qe_report_info, 0)))()

    async def _made(self, need):
        return await ended(self.relay, need)


async def ended(calls, need):
    """Make a call and return its outcome; check that `start` returns before the callback is called."""
    future = asyncio.get_running_loop().create_future()
    calls.start(need, future.set_result)
    assert not future.done()
    return await future


@pytest.fixture
def platform(aesmd):
    return aesmd.provider


@pytest.fixture
def root(aesmd):
    return read_expected_root(aesmd.path.parents[1] / "root.pem")


def relay_to(path, root, **options):
    return AesmdQuoteProvider(path, root, AesmdRuns(path), **options)


@pytest.fixture
def make_relay(aesmd, root):
    return lambda seconds=10: relay_to(aesmd.path, root, call_seconds=seconds)


@pytest.fixture
def relay(make_relay):
    return make_relay()


@pytest.fixture(params=[lambda relay: relay, InLoop], ids=["in a thread", "in a loop"])
def made(request):
    return request.param


def report_for(provider):
    return APPLICATION.create_report(provider.identity().target_info, DATA)


def refused(relay, error_code, report):
    with raises(error_code, QuoteProviderError, "why", "remedy") as caught:
        relay.quote(report, None)
    return caught.value


def test_identity_size_and_quote_are_the_upstreams(made, relay, platform, aesmd):
    typed: QuoteProvider = made(relay)
    assert typed.identity() == platform.identity()
    assert typed.quote_size() == platform.quote_size()
    info = QeReportInfo(b"sixteen bytes!!!", APPLICATION.target_info(), bytes(432))
    report = report_for(platform)
    for _ in range(2):
        result = typed.quote(report, info)
        assert len(result.quote) == platform.quote_size()
        assert Quote.parse(result.quote).body.report_data == DATA
        assert ReportChecker.of(APPLICATION.target_info()).check(Report.parse(result.qe_report_info.qe_report))
    assert aesmd.asked == [INIT, SIZE, QUOTE, QUOTE]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_what_causes_what(relay, aesmd, cause):
    """After code 42 for size or quote, the relay makes an InitQuoteEx, and clients get its error."""
    report = report_for(relay)
    relay.quote_size()
    aesmd.codes = dict(zip((INIT, SIZE, QUOTE), map(Code, cause.codes), strict=True))
    answered = []
    for call in (lambda: relay.quote(report, None), relay.quote_size, relay.identity):
        with pytest.raises(QuoteProviderError) as caught:
            call()
        assert caught.value.error_code == code_of(cause.clients)
        answered.append(caught.value.code)
    assert answered == [cause.clients] * 3
    assert caught.value.lost == (cause.restarts == "yes")
    assert cause.advice in caught.value.remedy
    aesmd.codes = {}
    assert relay.quote(report, None).quote


def test_a_code_that_nobody_knows_is_1(relay, aesmd):
    aesmd.codes = {INIT: 99}
    with pytest.raises(QuoteProviderError) as caught:
        relay.identity()
    assert caught.value.code is Code.UNEXPECTED_ERROR


def test_a_restarted_one_is_initialised_without_the_client(made, relay, aesmd, platform):
    relay = made(relay)
    report = report_for(relay)
    relay.quote(report, None)
    aesmd.restart()
    assert Quote.parse(relay.quote(report, None).quote).body == report.body
    assert aesmd.asked == [QUOTE, INIT, SIZE, QUOTE]
    aesmd.restart()
    assert relay.quote_size() == relay.last_quote_size == platform.quote_size()


def test_after_a_change_of_the_enclave_clients_report_anew(relay, aesmd):
    report = report_for(relay)
    other = replace(DEFAULT_QE_IDENTITY, mr_enclave=b"\x17" * 32)
    aesmd.provider = SimulatedQuoteProvider(open_platform(aesmd.path.parents[1] / "platform"), other)
    aesmd.restart()
    refused(relay, "aesm-att-key-not-initialized", report)
    assert relay.quote(report_for(relay), None).quote


def test_a_quote_by_another_key_than_init_gave(relay):
    report = report_for(relay)
    relay.last_identity = replace(relay.identity(), pub_key_id=bytes(32))
    refused(relay, "aesm-att-key-not-initialized", report)


def test_a_wrong_target_info_is_renewed(made, relay, aesmd, platform):
    """After aesmd gave a wrong target info once, a report for the right enclave needs no new init."""
    relay = made(relay)
    aesmd.target_info = APPLICATION.target_info()
    relay.identity()
    refused(relay, "quote-of-another-enclave", report_for(platform))
    aesmd.target_info = None
    assert relay.quote(report_for(platform), None).quote
    assert relay.last_identity == platform.identity()


@pytest.mark.parametrize("code", [Code.PARAMETER_ERROR, Code.ATT_KEY_NOT_INITIALIZED])
def test_a_refusal_costs_one_renewal_per_instance(made, relay, aesmd, code):
    relay = made(relay)
    report = report_for(relay)
    for _ in range(2):
        relay.quote(report, None)
        aesmd.asked.clear()
        aesmd.codes = {QUOTE: code}
        for _ in range(3):
            refused(relay, code_of(code), report)
        assert aesmd.asked == [QUOTE, INIT, SIZE, QUOTE, QUOTE, QUOTE]
        aesmd.codes = {}
        relay.quote(report, None)
        aesmd.restart()


def test_a_refused_size_costs_one_renewal_per_instance(relay, aesmd):
    for _ in range(2):
        aesmd.codes = {SIZE: Code.ATT_KEY_NOT_INITIALIZED}
        for _ in range(3):
            with raises("aesm-att-key-not-initialized", QuoteProviderError):
                relay.quote_size()
        assert aesmd.asked == [SIZE, INIT, SIZE, SIZE, SIZE]
        aesmd.codes = {}
        relay.quote_size()
        aesmd.restart()


@pytest.mark.parametrize("refusal", [Code.ATT_KEY_CERT_DATA_INVALID, Code.PARAMETER_ERROR])
def test_a_changed_certificate_is_renewed_after_another_refusal(relay, aesmd, refusal):
    """Each change of the certificate's TCB costs one InitQuoteEx, and clients notice none of the changes."""
    report = report_for(relay)
    relay.quote(report, None)
    aesmd.change_certificate()
    aesmd.codes = {QUOTE: refusal}
    refused(relay, code_of(refusal), report)
    aesmd.codes = {}
    for _ in range(10):
        aesmd.change_certificate()
        assert relay.quote(report, None).quote


def test_all_that_one_call_asks_has_one_deadline(make_relay, aesmd):
    relay = make_relay(0.3)
    report = report_for(relay)
    aesmd.seconds = 0.2
    aesmd.restart()
    with pytest.raises(QuoteProviderError):
        relay.quote(report, None)  # four answers would be needed for success
    assert len(aesmd.asked) <= 2


def test_one_that_answers_others_is_slow_and_not_lost(make_relay, aesmd, monkeypatch):
    relay = make_relay(2)
    made, answered, ended = relay.identity(), threading.Event(), threading.Event()
    turns = iter((answered, ended))
    monkeypatch.setattr(aesmd, "provider", Mock(identity=lambda: next(turns).wait(50) and made))
    with ThreadPoolExecutor() as threads:
        asked = len(aesmd.asked)
        before = threads.submit(relay.identity)
        wait_until(lambda: len(aesmd.asked) == asked + 1)
        after = threads.submit(relay.identity)
        wait_until(lambda: len(aesmd.asked) == asked + 2)
        answered.set()
        assert before.result() == made
        with raises("aesmd-slow", QuoteProviderError) as caught:
            after.result()
        ended.set()
    assert (caught.value.code, caught.value.lost, relay.doubted) == (Code.BUSY, False, False)


def certified_by(quote, kind, data):
    parsed, other = Quote.parse(quote), CertificationData(kind, data)
    return replace(parsed, signature=replace(parsed.signature, certification=other)).encode()


def test_unusable_certificates_are_those_of_pccs(relay, aesmd, platform):
    report = report_for(relay)
    chain = Quote.parse(platform.quote(report, None).quote).signature.certification.data
    # In place of the chain, aesmd relays another program's page of the same length.
    aesmd.altered = lambda quote: certified_by(quote, 5, b"<html>".ljust(len(chain))) if any(quote) else quote
    assert "PCCS" in refused(relay, "quote-malformed", report).remedy


def test_a_hang_names_pccs(make_relay, aesmd):
    aesmd.cause("hang")
    with raises("aesmd-hangs", QuoteProviderError) as caught:
        make_relay(0.1).identity()
    assert "PCCS" in caught.value.remedy


@pytest.mark.parametrize(("trouble", "error_code"), NO_ANSWER)
def test_one_that_does_not_answer_is_lost(made, make_relay, aesmd, trouble, error_code):
    relay = made(make_relay(0.2 if trouble == "hang" else 10))
    aesmd.cause(trouble)
    with raises(error_code, QuoteProviderError, "why", "remedy") as caught:
        relay.identity()
    assert (caught.value.code, caught.value.lost, relay.doubted) == (Code.SERVICE_UNAVAILABLE, True, True)


def test_garbage_is_no_answer(made, relay, aesmd):
    aesmd.garbage = b"\x04\0\0\0\xff\xff\xff\xff"
    with raises("aesmd-malformed", QuoteProviderError):
        made(relay).identity()


def test_a_report_for_somebody_else_is_refused_with_47(made, relay):
    relay = made(relay)
    relay.identity()
    report = APPLICATION.create_report(APPLICATION.target_info(), DATA)
    assert refused(relay, "aesm-invalid-report", report).code is Code.INVALID_REPORT


def test_a_chain_to_another_root_is_never_relayed(aesmd):
    relay = relay_to(aesmd.path, INTEL_ROOT)
    assert refused(relay, "quote-of-another-root", report_for(relay)).code is Code.ATT_KEY_CERT_DATA_INVALID


def test_a_quote_without_a_chain_is_refused_by_its_size(relay, aesmd):
    relay.identity()
    relay.quote_size()
    # Zeros of another type's size replace the chain, because only the size counts.
    aesmd.altered = lambda quote: certified_by(quote, 3, bytes(404)) if any(quote) else bytes(1456)
    with raises("quote-without-pck-chain", QuoteProviderError, "why", "remedy") as caught:
        relay.quote_size()
    assert caught.value.code is Code.NO_PLATFORM_CERT_DATA


@pytest.mark.parametrize(("position", "error_code"), [(8, "quote-not-signed"), (60, "aesmd-malformed")])
def test_an_altered_quote_is_not_relayed(made, relay, aesmd, position, error_code):
    relay = made(relay)
    report = report_for(relay)
    relay.quote(report, None)
    aesmd.altered = lambda quote: quote[:position] + bytes([quote[position] ^ any(quote)]) + quote[position + 1 :]
    assert refused(relay, error_code, report) is relay.rejected
    aesmd.altered = lambda quote: quote
    relay.quote(report, None)
    assert relay.rejected is None


def test_another_size_than_announced(relay, aesmd):
    report = report_for(relay)
    relay.quote_size()
    aesmd.altered = lambda quote: quote + bytes(8) if not any(quote) else quote
    relay.quote_size()
    refused(relay, "quote-wrong-size", report)


@pytest.fixture
async def calls(relay):
    yield relay
    relay.close()


@pytest.mark.usefixtures("refusal")
async def test_an_aesmd_can_pass_no_descriptors(calls, aesmd):
    aesmd.kill()
    aesmd.path.unlink()
    aesmd.run = Run(aesmd.path)
    waiting = asyncio.create_task(ended(calls, IDENTITY))
    await asyncio.sleep(0)
    with aesmd.run.listener.accept()[0] as connection, LingeringSockets() as sockets:
        assert not pass_descriptors(connection, b"\1", [sockets.make()])
    with pytest.raises(ConfcomError):
        (await waiting)()


async def test_a_full_backlog_is_waited_for(calls, aesmd):
    aesmd.kill()
    aesmd.path.unlink()
    aesmd.run = Run(aesmd.path)
    aesmd.run.listener.listen(0)
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(aesmd.path))
        waiting = asyncio.create_task(ended(calls, IDENTITY))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        aesmd.run.listener.accept()[0].close()
        threading.Thread(target=aesmd._serve, args=(aesmd.run,), daemon=True).start()
        assert (await waiting)() == aesmd.provider.identity()


@pytest.fixture
def replace_sockets(monkeypatch):
    constants = {name: getattr(socket, name) for name in ("AF_UNIX", "SOCK_STREAM", "SOCK_NONBLOCK")}
    return lambda kind: monkeypatch.setattr(asynchronous, "socket", SimpleNamespace(SocketType=kind, **constants))


async def test_without_a_descriptor_a_call_ends_and_no_other(calls, aesmd, replace_sockets):
    replace_sockets(Mock(side_effect=OSError(errno.EMFILE, "no descriptor")))
    outcome = await ended(calls, IDENTITY)
    with pytest.raises(OSError, match="no descriptor"):
        outcome()
    replace_sockets(socket.SocketType)
    assert (await ended(calls, IDENTITY))() == aesmd.provider.identity()


async def test_closing_breaks_off_calls_and_keeps_no_descriptor(relay, aesmd):
    gc.collect()
    before = open_descriptors()
    aesmd.hang.clear()
    calls, outcomes = relay, []
    calls.start(IDENTITY, outcomes.append)
    calls.start(IDENTITY, outcomes.append)
    await until(lambda: len(aesmd.asked) == 2)
    calls.close()
    aesmd.hang.set()
    await until(lambda: open_descriptors() <= before)
    assert not outcomes


async def test_closing_drops_a_call_that_ended_at_its_start(relay, aesmd):
    aesmd.kill()
    calls, outcomes = relay, []
    calls.start(IDENTITY, outcomes.append)
    calls.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not outcomes


async def test_an_ended_call_leaves_nothing_to_the_collector(calls):
    gc.collect()
    gc.disable()
    try:
        await ended(calls, IDENTITY)
        await asyncio.sleep(0)
        assert not [left for left in gc.get_objects() if isinstance(left, asynchronous.RunningConversation)]
    finally:
        gc.enable()


def test_a_file_with_the_root(tmp_path, short_dir, root):
    root_pem = (short_dir / "root.pem").read_bytes()
    file = tmp_path / "root"
    with raises("expected-root-unusable", SettingsError, "why", "remedy"):
        read_expected_root(file)
    for unusable in (b"", b"no certificate", 2 * root_pem):
        file.write_bytes(unusable)
        with raises("expected-root-unusable", SettingsError, "why", "remedy"):
            read_expected_root(file)
    file.write_bytes(root_pem)
    assert read_expected_root(file) == root
