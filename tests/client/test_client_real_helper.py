"""Both clients against the real quote helper, in a process of its own."""

import subprocess
import sys
import time

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import AesmError
from confcom.client import AesmClient
from confcom.client.errors import ServiceUnreachableError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave

ENCLAVE = SimulatedEnclave.from_name("real helper test")


@pytest.fixture
def helper(socket_path):
    log = socket_path.parent / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "confcom.quote_helper", "--simulated"),
                *("--state-dir", str(socket_path.parent / "state"), "--socket", str(socket_path)),
            ],
            stderr=stream,
            stdout=stream,
        )
    try:
        while True:
            try:
                AesmClient(socket_path).init_quote()
            except (ServiceUnreachableError, AesmError):
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            else:
                break
        yield process
    finally:
        process.terminate()
        process.wait()


def test_everything_that_a_client_can_ask(helper, ask):
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
