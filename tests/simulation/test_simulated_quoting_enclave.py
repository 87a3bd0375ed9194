import hashlib
from dataclasses import replace

import pytest

from confcom.errors import SettingsError
from confcom.sgx.quote import Quote
from confcom.sgx.report import INTEL_QE_MRSIGNER, REPORT_BODY_SIZE, QeReportInfo, Report, ReportBody
from confcom.sgx.td_report import INTEL_TD_QE_MRSIGNER
from confcom.simulation.enclave import (
    SIMULATION_KEY_ID,
    UPGRADED_CPU_SVN,
    ReportChecker,
    ReportRejectedError,
    SimulatedEnclave,
    sign_report,
)
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.expected_errors import raises
from testkit.verify.genuine_quotes import VECTORS
from testkit.verify.verify_lab import Lab

DATA = bytes(range(64))
NONCE = b"sixteen bytes!!!"


def test_quote_fits_the_buffers_of_known_clients(any_platform):
    """Gramine always requests 8,192 bytes; Intel's library accepts chains of 500 to 12,294 bytes."""
    quote = Lab(any_platform).quote()
    assert len(quote) == any_platform.quoting_enclave().quote_size <= 8192
    assert 500 <= len(Quote.parse(quote).signature.certification.data) <= 12_294


def test_qe_report_is_that_of_the_target(quoting_enclave, application):
    raw, _ = quoting_enclave.quote(application.create_report(quoting_enclave.checker.target, DATA), None)
    quote = Quote.parse(raw)
    qe_body, target = quote.signature.qe_report_body, quoting_enclave.checker.target
    assert (qe_body.mr_enclave, qe_body.flags, qe_body.xfrm) == (target.mr_enclave, target.flags, target.xfrm)
    assert qe_body.flags == 0x15
    assert qe_body.isv_prod_id == 1
    assert qe_body.isv_svn == quote.header.qe_svn == DEFAULT_QE_IDENTITY.isv_svn
    assert (target.misc_select, target.config_svn, target.config_id) == (0, 0, bytes(64))


def test_bodies_that_the_sdk_made_are_quoted_in_its_layout(quoting_enclave, sdk_reports):
    for key_format, made in sdk_reports:
        body = ReportBody.parse(made.report[:REPORT_BODY_SIZE])
        report = sign_report(body, quoting_enclave.checker.target, key_format=key_format)
        application = SimulatedEnclave(body.mr_enclave, body.mr_signer, body.flags, body.xfrm)
        info = QeReportInfo(NONCE, application.target_info(), bytes(432))
        quote, answer = quoting_enclave.quote(Report.parse(report.encode()), info)
        qe_report = Report.parse(answer.qe_report)
        assert quote[48:432] == made.report[:REPORT_BODY_SIZE]
        assert ReportChecker.of(application.target_info()).check(qe_report) is key_format
        assert (qe_report.key_id, qe_report.body.cpu_svn) == (SIMULATION_KEY_ID, body.cpu_svn)


def test_qe_report_info_binds_nonce_and_whole_quote(quoting_enclave, application):
    report = application.create_report(quoting_enclave.checker.target, DATA, cpu_svn=UPGRADED_CPU_SVN)
    target = replace(application.target_info(), config_id=b"\7" * 64, reserved1=b"ab")
    info = QeReportInfo(NONCE, target, b"\xaa" * 432)

    quote, answer = quoting_enclave.quote(report, info)

    assert (answer.nonce, answer.app_enclave_target_info) == (NONCE, target)
    assert len(answer.encode()) == 960
    qe_report = Report.parse(answer.qe_report)
    assert qe_report.body.report_data == hashlib.sha256(NONCE + quote).digest() + bytes(32)
    assert qe_report.body.cpu_svn == UPGRADED_CPU_SVN
    assert qe_report.body.mr_enclave == quoting_enclave.checker.target.mr_enclave
    assert sign_report(qe_report.body, target) == qe_report


@pytest.mark.parametrize(
    ("change", "new_key", "new_target"),
    [
        ({"isv_svn": 2}, True, False),
        ({"mr_signer": b"\1" * 32}, True, False),
        ({"mr_enclave": b"\1" * 32}, False, True),
    ],
)
def test_updated_quoting_enclave(platform, application, change, new_key, new_target):
    """As on hardware, signer and SVN determine the key, and the measurement determines the target info."""
    before = platform.quoting_enclave()
    after = platform.quoting_enclave(replace(DEFAULT_QE_IDENTITY, **change))
    assert (after.pub_key_id != before.pub_key_id) is new_key
    assert (after.checker.target != before.checker.target) is new_target
    report = application.create_report(before.checker.target, DATA)
    if new_target:
        with pytest.raises(ReportRejectedError):
            after.quote(report, None)
    else:
        assert after.quote(report, None)[0] != before.quote(report, None)[0]


def measurement(name):
    return Quote.parse((VECTORS / name).read_bytes()).signature.qe_report_body.mr_enclave


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("mr_signer", signer) for signer in (INTEL_QE_MRSIGNER, INTEL_TD_QE_MRSIGNER)),
        *(("mr_enclave", measurement(name)) for name in ("quote_pck_cert_chain.bin", "quote_raw_tcb.bin")),
        *(("mr_enclave", measurement(name)) for name in ("tdx_quote", "tdx_quote_outdated", "tdx_quote_td15ex")),
    ],
)
def test_intels_identity_is_refused(platform, field, value):
    with raises("intel-identity", SettingsError, "why", "remedy"):
        platform.quoting_enclave(replace(DEFAULT_QE_IDENTITY, **{field: value}))


def test_keys_do_not_show(quoting_enclave, platform, seed):
    for shown in (repr(quoting_enclave), repr(platform), str(platform), repr(platform.pki)):
        assert seed.hex() not in shown
        assert repr(seed) not in shown
        assert "PrivateKey" not in shown
