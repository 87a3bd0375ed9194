"""Fortanix' own client, the real crate, against a real helper. It needs neither the cluster nor root, but cargo."""

import hashlib
import re
import secrets

import pytest

from confcom.errors import ConfcomError
from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from e2e.fortanix import build, find_cargo, quote_once
from testkit.helper_process import running_helper
from testkit.replay.clients import KEY
from testkit.replay.verification import QuoteVerifier

pytestmark = pytest.mark.skipif(find_cargo() is None, reason="there is no cargo here to build Fortanix' crate with")

ENCLAVE = SimulatedEnclave.from_name("Fortanix EDP")
REPORT_DATA, NONCE = secrets.token_bytes(64), secrets.token_bytes(16)


def right_report(target_info):
    return ENCLAVE.create_report(TargetInfo.parse(target_info), REPORT_DATA).encode()


def misled_report(_):
    """For the enclave itself, whatever target it is given."""
    return ENCLAVE.create_report(ENCLAVE.target_info(), REPORT_DATA).encode()


@pytest.fixture(scope="module")
def program():
    return build()


def test_the_real_crate_gets_a_quote_that_verifies(program):
    with running_helper() as helper:
        got = quote_once(program, helper.socket, right_report, NONCE)
        verdict = QuoteVerifier(helper.state_dir).verify(got["quote"], ENCLAVE, REPORT_DATA)
    assert got["key_id"] == KEY
    assert verdict.ok, verdict.failures
    assert got["quote"][564 + 320 :][:32] == got["pub_key_id"]
    qe_report = Report.parse(got["qe_report"])
    ENCLAVE.verify_report(qe_report)
    assert qe_report.body.mr_enclave == TargetInfo.parse(got["target_info"]).mr_enclave
    assert qe_report.body.report_data == hashlib.sha256(NONCE + got["quote"]).digest() + bytes(32)


def test_a_refusal_reaches_the_program_with_its_number(program):
    """A report for another enclave than the quoting enclave: 42 for some time after a start, then 47."""
    with running_helper() as helper, pytest.raises(ConfcomError) as caught:
        quote_once(program, helper.socket, misled_report, NONCE)
    assert re.fullmatch(r"aesm error code \w+_(42|47)", caught.value.why)
