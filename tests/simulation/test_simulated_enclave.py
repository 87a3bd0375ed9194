from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.report import REPORT_SIZE, Report, TargetInfo
from confcom.simulation.enclave import (
    BASE_REPORT_KEY,
    DEFAULT_CPU_SVN,
    DOWNGRADED_CPU_SVN,
    SIMULATION_KEY_ID,
    UPGRADED_CPU_SVN,
    ReportChecker,
    ReportKeyFormat,
    ReportRejectedError,
    SimulatedEnclave,
    derivation_data,
    report_key,
    report_mac,
    sign_report,
)
from testkit.expected_errors import raises

REPORTER = SimulatedEnclave.from_name("reporter")
CHECKER = SimulatedEnclave.from_name("checker", debug=True)
DATA = bytes(range(64))
verify = ReportChecker.of(CHECKER.target_info()).check

formats = st.sampled_from(ReportKeyFormat)
cpu_svns = st.sampled_from([DEFAULT_CPU_SVN, UPGRADED_CPU_SVN, DOWNGRADED_CPU_SVN])


def test_reports_of_intels_sdk_are_reproduced(sdk_reports):
    assert len(sdk_reports) == 32
    for key_format, made in sdk_reports:
        target, report = TargetInfo.parse(made.target_info), Report.parse(made.report)
        cpu_svn = report.body.cpu_svn
        assert made.base_key == BASE_REPORT_KEY
        assert made.keyid == report.key_id == SIMULATION_KEY_ID
        assert derivation_data(key_format, target, cpu_svn, report.key_id) == made.derivation_data
        key = report_key(key_format, target, cpu_svn, report.key_id)
        assert key == made.report_key
        assert report_mac(CMAC(AES(key)), made.report[:384]) == made.mac
        assert sign_report(report.body, target, key_format=key_format).encode() == made.report


@given(formats, cpu_svns, st.binary(min_size=64, max_size=64))
def test_checker_accepts_what_was_made_for_it(key_format, cpu_svn, data):
    report = REPORTER.create_report(CHECKER.target_info(), data, cpu_svn=cpu_svn, key_format=key_format)
    assert verify(Report.parse(report.encode())) is key_format
    assert report.body.report_data == data
    assert report.body.cpu_svn == cpu_svn
    assert report.body.mr_enclave == REPORTER.mr_enclave


@given(formats, st.integers(0, REPORT_SIZE - 1), st.integers(1, 255))
def test_any_changed_byte_is_rejected(key_format, offset, difference):
    report = bytearray(REPORTER.create_report(CHECKER.target_info(), DATA, key_format=key_format).encode())
    report[offset] ^= difference
    with pytest.raises(ReportRejectedError):
        verify(Report.parse(bytes(report)))


@pytest.mark.parametrize(
    "other",
    [replace(CHECKER, mr_enclave=bytes(32)), replace(CHECKER, flags=CHECKER.flags ^ 0x02), replace(CHECKER, xfrm=0xE7)],
    ids=["mr_enclave", "flags", "xfrm"],
)
def test_report_for_another_target_is_rejected(other):
    with raises("report-mac-mismatch", ReportRejectedError, "why", "remedy"):
        verify(REPORTER.create_report(other.target_info(), DATA))


def test_fields_that_target_info_does_not_carry_do_not_matter():
    other = replace(CHECKER, mr_signer=bytes(32), isv_svn=7, isv_prod_id=7)
    assert (
        ReportChecker.of(other.target_info()).check(REPORTER.create_report(CHECKER.target_info(), DATA))
        is ReportKeyFormat.CURRENT
    )


def test_current_layout_binds_what_the_legacy_one_leaves_out():
    for change in ({"misc_select": 1}, {"config_svn": 1}, {"config_id": b"\1" * 64}):
        target = replace(CHECKER.target_info(), **change)
        legacy = REPORTER.create_report(target, DATA, key_format=ReportKeyFormat.LEGACY)
        assert verify(legacy) is ReportKeyFormat.LEGACY
        with pytest.raises(ReportRejectedError):
            verify(REPORTER.create_report(target, DATA, key_format=ReportKeyFormat.CURRENT))


def test_report_of_a_processor_is_rejected_with_the_reason():
    body = replace(REPORTER.report_body(DATA), cpu_svn=bytes.fromhex("0f0f0305ff8007000000000000000000"))
    with raises("foreign-cpu-svn", ReportRejectedError, "why", "remedy", naming=body.cpu_svn.hex()):
        verify(sign_report(body, CHECKER.target_info()))


def test_names_give_the_same_identity_everywhere():
    enclave = SimulatedEnclave.from_name("hello")
    assert enclave.mr_enclave.hex() == "a9257fc38fd13d4650c1126bc462f76174c772d9840e2c91d1191f0c2483da21"
    assert enclave.mr_signer.hex() == "ac683bb2c0934af676bc21e48b524406d3106c64f05be3ad65e6e163e3bd4f4d"
    assert (enclave.flags, enclave.xfrm) == (0x05, 0x07)
    assert (enclave.isv_prod_id, enclave.isv_svn) == (0, 0)
    assert SimulatedEnclave.from_name("hello", debug=True) == replace(enclave, flags=0x07)
    other = SimulatedEnclave.from_name("other")
    assert (other.mr_signer, other.mr_enclave == enclave.mr_enclave) == (enclave.mr_signer, False)


def test_body_holds_the_identity_and_zeros_elsewhere():
    enclave = SimulatedEnclave(b"\1" * 32, b"\2" * 32, flags=0x85, xfrm=0xE7, isv_prod_id=0x0304, isv_svn=0x0506)
    expected = bytearray(384)
    expected[0:16] = DEFAULT_CPU_SVN
    expected[48:64] = bytes([0x85, *bytes(7), 0xE7, *bytes(7)])
    expected[64:96] = b"\1" * 32
    expected[128:160] = b"\2" * 32
    expected[256:260] = b"\4\3\6\5"
    expected[320:384] = DATA
    assert enclave.report_body(DATA).encode() == expected
    for size in (0, 32, 63, 65):
        with raises("wrong-size", MalformedError):
            enclave.create_report(CHECKER.target_info(), bytes(size))
