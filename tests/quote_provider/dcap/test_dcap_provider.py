"""Quotes by stand-ins for Intel's libraries, in a real child process, and the checks of what they answer."""

from dataclasses import replace

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError
from confcom.quote_provider.dcap.error_codes import Quote3Error
from confcom.quote_provider.dcap.frames import Call
from confcom.quote_provider.expected_root import INTEL_ROOT
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.hardware_causes import CAUSES
from testkit.raised import raises
from testkit.stub_dcap import PROVIDER, build_libraries
from testkit.type_3_quote import with_type_3

APPLICATION = SimulatedEnclave.from_name("application")
DATA = bytes(range(64))
INFO = QeReportInfo(b"sixteen bytes!!!", APPLICATION.target_info(), bytes(432))
INIT, SIZE, QUOTE = Call.INIT, Call.SIZE, Call.QUOTE


def report_for(provider):
    return APPLICATION.create_report(provider.identity().target_info, DATA)


def test_identity_size_and_quote_are_the_librarys(dcap, platform, stub):
    typed: QuoteProvider = dcap
    assert typed.identity() == platform.identity()
    assert typed.quote_size() == platform.quote_size()
    result = typed.quote(report_for(dcap), INFO)
    assert len(result.quote) == platform.quote_size()
    assert Quote.parse(result.quote).body.report_data == DATA
    assert APPLICATION.verify_report(Report.parse(result.qe_report_info.qe_report))
    assert dcap.quote(report_for(dcap), None).qe_report_info is None
    assert len(set(stub.pids)) == 1


def test_a_quote_needs_no_call_before_it(dcap, platform, stub):
    assert dcap.quote(report_for(platform), None).quote
    assert stub.asked == [INIT, SIZE, QUOTE]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_what_causes_what(dcap, stub, cause):
    """Where size or quote want an init first (E00F), the provider makes it, and clients get its error."""
    report = report_for(dcap)
    dcap.quote_size()
    numbers = cause.dcap.numbers
    stub.codes = dict(zip(Call, numbers, strict=True))
    answered = []
    for call in (lambda: dcap.quote(report, None), dcap.quote_size, dcap.identity):
        with pytest.raises(QuoteProviderError) as caught:
            call()
        assert not caught.value.lost
        assert any(f"0x{number:04x} (SGX_QL_{Quote3Error(number).name})" in caught.value.what for number in numbers)
        assert "sgx_ql_" in caught.value.what
        answered.insert(0, caught.value.code)
    assert tuple(answered) == cause.dcap.clients
    assert cause.dcap.advice in caught.value.remedy  # of an init, as the self-test tells it
    stub.codes = {}
    assert dcap.quote(report, None).quote


@pytest.mark.parametrize("call", Call)
@pytest.mark.parametrize(
    "code", [0xE001, 0xE012, 0xE014, 0xE016, 0xE035, 0xE019, 0xE00D, 0xE00F, 0xE015], ids=lambda code: f"{code:x}"
)
def test_the_child_is_replaced_after_failures_that_stay_in_it(dcap, stub, call, code):
    """The stand-in, as Intel's library, answers inits with garbage after one has failed in its process."""
    report = report_for(dcap)
    stub.codes = {call: code}
    with pytest.raises(QuoteProviderError):
        dcap.identity() if call is INIT else dcap.quote(report, None)
    first = stub.pids[0]
    stub.codes = {}
    assert dcap.identity() == stub.provider.identity()
    assert dcap.quote(report, None).quote
    assert (stub.pids[-1] != first) == (call is INIT or code in {0xE001, 0xE012, 0xE014, 0xE016, 0xE035})


def test_a_lost_enclave_costs_the_client_nothing(dcap, stub):
    report = report_for(dcap)
    dcap.quote_size()
    first = stub.pids[-1]
    stub.asked.clear()
    stub.codes_once = {QUOTE: 0xE014}
    assert dcap.quote(report, None).quote
    assert stub.asked == [QUOTE, INIT, SIZE, QUOTE]
    assert stub.pids[-1] != first


def test_a_changed_tcb_is_certified_again_without_the_client(dcap, stub):
    report = report_for(dcap)
    dcap.quote_size()
    stub.tcb_changed = True
    stub.asked.clear()
    assert dcap.quote(report, None).quote
    assert stub.asked == [QUOTE, INIT, SIZE, QUOTE]
    stub.tcb_changed = True
    assert dcap.quote_size() == stub.provider.quote_size()
    assert len(set(stub.pids)) == 1


def test_a_longer_chain_is_a_longer_quote_and_the_client_asks_again(dcap, stub):
    report = report_for(dcap)
    dcap.quote_size()
    stub.added_size = 8
    with raises("quote-wrong-size", QuoteProviderError):  # this stand-in's quote is still the old one
        dcap.quote(report, None)
    assert dcap.quote_size() == stub.provider.quote_size() + 8


def test_after_a_change_of_the_quoting_enclave_the_client_makes_another_report(dcap, stub, tmp_path):
    report = report_for(dcap)
    other = replace(DEFAULT_QE_IDENTITY, mr_enclave=b"\x17" * 32)
    stub.provider = SimulatedQuoteProvider.open_or_create(tmp_path / "platform", qe_identity=other)
    stub.tcb_changed = True
    with raises("aesm-att-key-not-initialized", QuoteProviderError, "why", "remedy"):
        dcap.quote(report, None)
    with raises("aesm-invalid-report", QuoteProviderError):
        dcap.quote(report, None)
    assert dcap.quote(report_for(dcap), None).quote


def test_a_report_for_somebody_else_is_refused_with_47_and_the_child_stays(dcap, stub):
    dcap.identity()
    with raises("aesm-invalid-report", QuoteProviderError, "why", "remedy") as caught:
        dcap.quote(APPLICATION.create_report(APPLICATION.target_info(), DATA), None)
    assert caught.value.code is Code.INVALID_REPORT
    assert dcap.quote(report_for(dcap), None).quote
    assert len(set(stub.pids)) == 1


def test_without_the_provider_library_no_quote_is_given(make, tmp_path, caplog):
    libraries = build_libraries(tmp_path)
    (libraries / PROVIDER).unlink()
    dcap = make(libraries)
    with raises("quote-without-pck-chain", QuoteProviderError, "why", "remedy") as caught:
        dcap.quote_size()
    assert caught.value.code is Code.NO_PLATFORM_CERT_DATA
    assert "aesmd" not in str(caught.value)
    with raises("quote-without-pck-chain", QuoteProviderError):
        dcap.quote(report_for(dcap), None)
    (warning,) = [record for record in caplog.records if "quote provider library is missing" in record.getMessage()]
    assert PROVIDER in warning.error


def test_a_provider_library_that_does_not_initialise_counts_as_missing(make, stub):
    """The child loads it, so that only the size of quotes and their type tell."""
    dcap = make(environ=stub.environ | {"STUB_DCAP_PROVIDER_FAILS": "1"})
    dcap.identity()
    with raises("quote-without-pck-chain", QuoteProviderError):
        dcap.quote_size()
    with raises("quote-without-pck-chain", QuoteProviderError):
        dcap.quote(report_for(dcap), None)


def test_another_key_after_a_microcode_update_wants_another_report(dcap, stub, tmp_path):
    """The key comes with a higher CPUSVN, in a new process; reports that were made before are refused."""
    report = report_for(dcap)
    dcap.quote_size()
    stub.codes_once = {QUOTE: Quote3Error.ENCLAVE_LOST}
    ours, changed = stub.provider, replace(stub.provider.identity(), pub_key_id=b"\x17" * 32)
    ours.identity = lambda: changed
    with raises("aesm-att-key-not-initialized", QuoteProviderError, "why", "remedy") as caught:
        dcap.quote(report, None)
    assert caught.value.code is Code.ATT_KEY_NOT_INITIALIZED
    assert dcap.identity() == changed


def test_a_quote_of_type_3_is_refused_whatever_its_size(dcap, stub, platform):
    report = report_for(dcap)
    stub.altered = lambda quote: with_type_3(quote).ljust(platform.quote_size(), b"\0")
    with raises("quote-wrong-size", QuoteProviderError):
        dcap.quote(report, None)


def test_a_chain_to_another_root_is_never_given(make, platform):
    with raises("quote-of-another-root", QuoteProviderError) as caught:
        make(root=INTEL_ROOT).quote(report_for(platform), None)
    assert caught.value.code is Code.ATT_KEY_CERT_DATA_INVALID
    assert "socket" not in caught.value.remedy


@pytest.mark.parametrize(
    ("position", "error_code"),
    [(8, "quote-not-signed"), (440, "quote-not-signed"), (504, "quote-of-another-key"), (-10, "quote-malformed")],
    ids=["header", "signature", "key", "chain"],
)
def test_an_altered_quote_is_not_given(dcap, stub, position, error_code):
    report = report_for(dcap)

    def alter(quote):
        changed = bytearray(quote)
        changed[position] ^= 1
        return bytes(changed)

    stub.altered = alter
    with raises(error_code, QuoteProviderError):
        dcap.quote(report, None)


def test_a_quote_of_another_report_is_not_given(dcap, stub, platform):
    other = APPLICATION.create_report(platform.identity().target_info, bytes(64))
    stub.altered = lambda _: platform.quote(other, None).quote
    with raises("dcap-malformed", QuoteProviderError, "why", "remedy"):
        dcap.quote(report_for(dcap), None)


@pytest.mark.parametrize("position", [0, 16, 528 + 320], ids=["nonce", "target", "hash"])
def test_a_qe_report_of_something_else_is_not_given(dcap, stub, position):
    def alter(info):
        changed = bytearray(info)
        changed[position] ^= 1
        return bytes(changed)

    stub.altered_info = alter
    with raises("dcap-malformed", QuoteProviderError, "why", "remedy"):
        dcap.quote(report_for(dcap), INFO)


@pytest.mark.parametrize("added", [-10000, 100000])
def test_a_size_that_no_quote_has(dcap, stub, added):
    stub.added_size = added if added > 0 else -stub.provider.quote_size()
    with raises("dcap-malformed", QuoteProviderError):
        dcap.quote_size()
