"""Both clients against the real quote helper, in a process of its own."""

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import AesmError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.helper_process import running_helper

ENCLAVE = SimulatedEnclave.from_name("real helper test")


@pytest.fixture(scope="module")
def helper():
    with running_helper() as helper:
        yield helper


@pytest.fixture
def socket_path(helper):
    return helper.socket


def test_everything_that_a_client_can_ask(ask):
    assert ask("supported_key_ids") == (ECDSA_P256_KEY_ID,)
    info = QeReportInfo(b"n" * 16, ENCLAVE.target_info(), bytes(432))
    quoted = ask("quote_fresh_report", lambda target: ENCLAVE.create_report(target, bytes(64)), qe_report_info=info)
    parsed = Quote.parse(quoted.quote)
    assert parsed.body.mr_enclave == ENCLAVE.mr_enclave
    assert parsed.size == len(quoted.quote) == ask("quote_size")
    ENCLAVE.verify_report(Report.parse(quoted.qe_report_info.qe_report))
    stranger = TargetInfo(mr_enclave=bytes(32), flags=5, xfrm=7)
    with pytest.raises(AesmError) as caught:
        ask("get_quote", ENCLAVE.create_report(stranger, bytes(64)))
    assert caught.value.code in {AesmErrorCode.INVALID_REPORT, AesmErrorCode.ATT_KEY_NOT_INITIALIZED}
