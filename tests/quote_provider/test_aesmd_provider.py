"""The relay to aesmd, against a stand-in that fails as Intel's aesmd was measured to fail."""

import os
import socket
import threading
import time
from dataclasses import replace

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.error_code import code_of
from confcom.errors import SettingsError
from confcom.quote_provider.aesmd import AesmdQuoteProvider
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError
from confcom.quote_provider.expected_root import INTEL_ROOT, ExpectedRoot, read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.certification import CertificationData, split_pem_chain
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.hardware_causes import CAUSES
from testkit.raised import raises
from testkit.stub_aesmd import IDS, INIT, NO_ANSWER, NUM, QUOTE, SIZE, StubAesmd
from testkit.type_3_quote import with_type_3

APPLICATION = SimulatedEnclave.from_name("application")
DATA = bytes(range(64))


@pytest.fixture
def platform(tmp_path):
    return SimulatedQuoteProvider.open_or_create(tmp_path / "platform")


@pytest.fixture
def root(tmp_path, platform):
    file = tmp_path / "root.pem"
    file.write_bytes(open_platform(tmp_path / "platform").pki.root.pem)
    return read_expected_root(file)


@pytest.fixture
def aesmd(short_dir, platform):
    stub = StubAesmd(short_dir / "private.socket", platform).start()
    yield stub
    stub.hang.set()
    stub.kill()


@pytest.fixture
def relay(aesmd, root):
    return AesmdQuoteProvider(aesmd.path, root, call_seconds=5)


def report_for(provider):
    return APPLICATION.create_report(provider.identity().target_info, DATA)


def test_identity_size_and_quote_are_the_upstreams(relay, platform):
    typed: QuoteProvider = relay
    assert typed.identity() == platform.identity()
    assert typed.quote_size() == platform.quote_size()
    info = QeReportInfo(b"sixteen bytes!!!", APPLICATION.target_info(), bytes(432))
    result = typed.quote(report_for(relay), info)
    assert len(result.quote) == platform.quote_size()
    assert Quote.parse(result.quote).body.report_data == DATA
    assert APPLICATION.verify_report(Report.parse(result.qe_report_info.qe_report))


@pytest.mark.parametrize("call", ["identity", "quote_size", "quote"])
@pytest.mark.parametrize("code", [1, 12, 29, 38, 44, 46, 47, 50])
def test_a_refusal_is_passed_on_with_advice_for_the_node(relay, aesmd, platform, call, code):
    report = report_for(platform)
    relay.identity()
    relay.quote_size()
    aesmd.codes = dict.fromkeys((INIT, SIZE, QUOTE), Code(code))
    with raises(code_of(code), QuoteProviderError, "why", "remedy") as caught:
        relay.quote(report, None) if call == "quote" else getattr(relay, call)()
    assert (caught.value.code, caught.value.lost) == (code, False)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_what_causes_what(relay, aesmd, cause):
    """Where size or quote want an init first (42), the relay makes it, and clients get its error."""
    report = report_for(relay)
    relay.quote_size()
    aesmd.codes = dict(zip((INIT, SIZE, QUOTE), map(Code, cause.codes), strict=True))
    answered = []
    for call in (lambda: relay.quote(report, None), relay.quote_size, relay.identity):
        with pytest.raises(QuoteProviderError) as caught:
            call()
        assert not caught.value.lost
        answered.insert(0, caught.value.code)
    assert answered == [cause.clients] * 3
    assert cause.advice in caught.value.remedy
    aesmd.codes = {}
    assert relay.quote(report, None).quote


def test_a_code_that_nobody_knows_is_1(relay, aesmd):
    aesmd.codes = {INIT: 99}
    with pytest.raises(QuoteProviderError) as caught:
        relay.identity()
    assert caught.value.code is Code.UNEXPECTED_ERROR


def test_without_a_quoting_enclave_no_key_is_supported(relay, aesmd):
    assert relay.supported_key_count() == 1
    aesmd.codes = {NUM: Code.SERVICE_UNAVAILABLE, IDS: Code.PARAMETER_ERROR}
    with raises("aesm-service-unavailable", QuoteProviderError):
        relay.supported_key_count()


def test_a_restarted_one_is_initialised_without_the_client(relay, aesmd):
    report = report_for(relay)
    aesmd.kill()
    aesmd.start()
    aesmd.asked.clear()
    assert Quote.parse(relay.quote(report, None).quote).body == report.body
    assert aesmd.asked.count(INIT) == 1


def test_after_a_change_of_the_quoting_enclave_the_client_makes_another_report(relay, aesmd, tmp_path):
    report = report_for(relay)
    aesmd.kill()
    other = replace(DEFAULT_QE_IDENTITY, mr_enclave=b"\x17" * 32)
    aesmd.provider = SimulatedQuoteProvider.open_or_create(tmp_path / "platform", qe_identity=other)
    aesmd.start()
    with raises("aesm-att-key-not-initialized", QuoteProviderError):
        relay.quote(report, None)
    assert relay.quote(report_for(relay), None).quote


def test_after_a_change_of_the_key_alone_the_client_makes_another_report(relay, aesmd, tmp_path):
    """Another client's InitQuoteEx has initialised the new one; this client knows the old key."""
    report = report_for(relay)
    other = SimulatedQuoteProvider.open_or_create(tmp_path / "other")
    changed = replace(relay.identity(), pub_key_id=other.identity().pub_key_id)
    relay._identity = changed
    with raises("aesm-att-key-not-initialized", QuoteProviderError, "why", "remedy"):
        relay.quote(report, None)


def test_the_size_after_a_restart_is_known_without_the_client(relay, aesmd, platform):
    relay.identity()
    aesmd.kill()
    aesmd.start()
    assert relay.quote_size() == relay.last_quote_size == platform.quote_size()


def test_all_that_one_call_asks_has_one_deadline(aesmd, root):
    relay = AesmdQuoteProvider(aesmd.path, root, call_seconds=0.3)
    report = report_for(relay)
    aesmd.seconds = 0.2
    aesmd.kill()
    aesmd.start()
    began = time.monotonic()
    with pytest.raises(QuoteProviderError):
        relay.quote(report, None)  # it would need four answers
    assert time.monotonic() - began < 0.6


def test_one_that_answers_others_is_slow_and_not_lost(aesmd, root):
    relay = AesmdQuoteProvider(aesmd.path, root, call_seconds=1)
    relay.identity()
    aesmd.hang.clear()
    asked = threading.Timer(0.1, relay.supported_key_count)
    asked.start()
    with raises("aesmd-slow", QuoteProviderError) as caught:
        relay.identity()
    asked.join()
    assert (caught.value.code, caught.value.lost, relay.lost) == (Code.BUSY, False, False)


def test_target_info_of_another_enclave_than_the_quotes(relay, aesmd):
    """A wrong one would make clients write reports for it, which nobody can check."""
    report = report_for(relay)
    identity = relay.identity()
    relay._identity = replace(identity, target_info=APPLICATION.target_info())
    with raises("quote-of-another-enclave", QuoteProviderError):
        relay.quote(report, None)


def test_a_report_for_somebody_else_is_refused_with_47(relay, aesmd):
    relay.identity()
    with raises("aesm-invalid-report", QuoteProviderError) as caught:
        relay.quote(APPLICATION.create_report(APPLICATION.target_info(), DATA), None)
    assert caught.value.code is Code.INVALID_REPORT


def padded_type_3(quote):
    """Of the same size as the one with a chain: only the type tells."""
    parsed = Quote.parse(quote)
    chain = CertificationData(3, parsed.signature.certification.data)
    return replace(parsed, signature=replace(parsed.signature, certification=chain)).encode()


def test_quotes_without_a_certificate_chain_are_refused_by_their_size_and_by_their_type(relay, aesmd):
    report = report_for(relay)
    relay.quote_size()
    aesmd.altered = with_type_3
    with raises("quote-without-pck-chain", QuoteProviderError, "why", "remedy") as caught:
        relay.quote_size()
    assert caught.value.code is Code.NO_PLATFORM_CERT_DATA
    aesmd.altered = lambda quote: padded_type_3(quote) if any(quote) else quote
    with raises("quote-without-pck-chain", QuoteProviderError):
        relay.quote(report, None)
    assert relay.rejected.error_code == "quote-without-pck-chain"


def test_a_chain_to_another_root_is_never_relayed(aesmd, tmp_path):
    relay = AesmdQuoteProvider(aesmd.path, INTEL_ROOT)
    with raises("quote-of-another-root", QuoteProviderError) as caught:
        relay.quote(report_for(relay), None)
    assert caught.value.code is Code.ATT_KEY_CERT_DATA_INVALID


def flipped(position):
    def alter(quote):
        changed = bytearray(quote)
        changed[position] ^= any(quote)
        return bytes(changed)

    return alter


@pytest.mark.parametrize(
    ("position", "error_code"),
    [
        (8, "quote-not-signed"),
        (60, "aesmd-malformed"),
        (433, "aesmd-malformed"),
        (440, "quote-not-signed"),
        (504, "quote-of-another-key"),
        (570, "quote-key-not-certified"),
        (1020, "quote-of-another-key"),
        (-10, "quote-malformed"),
    ],
    ids=["header", "body", "size of all signatures", "signature", "key", "qe report", "auth data", "pem"],
)
def test_an_altered_quote_is_not_relayed(relay, aesmd, position, error_code):
    report = report_for(relay)
    relay.quote(report, None)
    aesmd.altered = flipped(position)
    with raises(error_code, QuoteProviderError):
        relay.quote(report, None)
    assert relay.rejected.error_code == error_code
    aesmd.altered = lambda quote: quote
    relay.quote(report, None)
    assert relay.rejected is None


def test_a_leaf_that_the_chain_did_not_issue(relay, aesmd, tmp_path):
    """After a good quote: what was checked once is checked again when it changes."""
    report = report_for(relay)
    relay.quote(report, None)
    SimulatedQuoteProvider.open_or_create(tmp_path / "other")
    leaf, *_ = split_pem_chain(open_platform(tmp_path / "other").pki.pck_chain)

    def with_other_leaf(quote):
        parsed = Quote.parse(quote if any(quote) else aesmd.provider.quote(report, None).quote)
        _, *rest = split_pem_chain(parsed.signature.certification.data)
        chain = CertificationData(5, b"".join((leaf, *rest)))
        altered = replace(parsed, signature=replace(parsed.signature, certification=chain)).encode()
        return altered if any(quote) else bytes(len(altered))

    aesmd.altered = with_other_leaf
    relay.quote_size()
    with raises("quote-broken-chain", QuoteProviderError):
        relay.quote(report, None)


def test_another_size_than_was_said(relay, aesmd):
    report = report_for(relay)
    relay.quote_size()
    aesmd.altered = lambda quote: quote + bytes(8) if not any(quote) else quote
    relay.quote_size()
    with raises("quote-wrong-size", QuoteProviderError):
        relay.quote(report, None)


@pytest.mark.parametrize(("trouble", "error_code"), NO_ANSWER)
def test_one_that_does_not_answer_is_lost(aesmd, root, trouble, error_code):
    relay = AesmdQuoteProvider(aesmd.path, root, call_seconds=0.2)
    aesmd.cause(trouble)
    with raises(error_code, QuoteProviderError, "why", "remedy") as caught:
        relay.identity()
    assert (caught.value.code, caught.value.lost, relay.lost) == (Code.SERVICE_UNAVAILABLE, True, True)


def test_garbage_is_no_answer(short_dir, root):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_dir / "garbage"))
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x04\0\0\0\xff\xff\xff\xff")

        threading.Thread(target=serve, daemon=True).start()
        with raises("aesmd-malformed", QuoteProviderError):
            AesmdQuoteProvider(short_dir / "garbage", root, call_seconds=5).identity()


def test_its_own_socket_is_refused(relay, short_dir, root):
    with raises("aesmd-is-this-helper", QuoteProviderError):
        relay.require_other_process()  # the stand-in is a thread of this process
    with raises("aesmd-unreachable", QuoteProviderError):
        AesmdQuoteProvider(short_dir / "nothing", root).require_other_process()
    listening, told = os.pipe()
    child = os.fork()
    if not child:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(short_dir / "other"))
            listener.listen()
            os.write(told, b"x")
            listener.accept()
        os._exit(0)
    os.read(listening, 1)
    AesmdQuoteProvider(short_dir / "other", root).require_other_process()
    os.waitpid(child, 0)
    os.close(listening)
    os.close(told)


def test_a_test_root_never_passes_for_intels(root):
    assert "TEST ROOT" in str(root)
    assert not root.is_intel
    assert INTEL_ROOT.is_intel
    assert "TEST" not in str(INTEL_ROOT)
    assert root == ExpectedRoot(root.key_id)


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"two"])
def test_a_root_that_cannot_be_used(tmp_path, platform, content):
    file = tmp_path / "root"
    if content is not None:
        pem = open_platform(tmp_path / "platform").pki.root.pem
        file.write_bytes(2 * pem if content == b"two" else content)
    with raises("expected-root-unusable", SettingsError, "why", "remedy"):
        read_expected_root(file)
