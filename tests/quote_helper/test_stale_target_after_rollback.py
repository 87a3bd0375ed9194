"""After a rollback clients hold target info of the version that was rolled back."""

import signal

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import REPORT_DATA_SIZE, TargetInfo

OURS, THEIRS = b"O" * 512, b"T" * 512
WINDOW = 100.0


def test_taking_the_path_back_from_another_quoting_enclave_opens_the_window_again():
    now = [0.0]
    policy = StaleTargetPolicy(WINDOW, lambda: now[0])
    policy.quotes_for(OURS)
    now[0] = 2 * WINDOW
    assert policy.code_for_rejected_report() is AesmErrorCode.INVALID_REPORT
    for other in (THEIRS, b""):
        policy.took_over_from(other)
        assert policy.code_for_rejected_report() is AesmErrorCode.ATT_KEY_NOT_INITIALIZED
        now[0] += WINDOW
        assert policy.code_for_rejected_report() is AesmErrorCode.INVALID_REPORT


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_clients_of_a_newer_version_that_died_or_was_stopped_ask_again(end, start_helper, ask, wait_until, stale_quote):
    first = start_helper(name="first").wait_ready()
    old = start_helper(name="old").wait_ready()
    first.stop()
    assert ask(old.socket, stale_quote).error_code == AesmErrorCode.INVALID_REPORT
    new = start_helper(name="new", arguments=("--simulated-qe-mrenclave", "ab" * 32)).wait_ready()
    wait_until(lambda: "newer" in old.get("/readyz")[1])
    new.stop(end)
    old.wait_ready()
    assert ask(old.socket, stale_quote).error_code == AesmErrorCode.ATT_KEY_NOT_INITIALIZED


@pytest.fixture
def stale_quote(enclave):
    """A request whose report was made for another quoting enclave."""
    report = enclave.create_report(TargetInfo.parse(bytes(512)), bytes(REPORT_DATA_SIZE)).encode()
    return GetQuoteExRequest(report=report, buf_size=8192, att_key_id=ECDSA_P256_KEY_ID.encode())
