"""Fortanix' own client, the real crate, against a real helper. It needs neither the cluster nor root, but cargo."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest

from confcom.errors import ConfcomError
from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from e2e.fortanix import build, find_cargo, quote_once
from e2e.progress import say
from testkit.helper_process import running_helper
from testkit.replay.clients import KEY
from testkit.replay.verification import QuoteVerifier

pytestmark = pytest.mark.skipif(find_cargo() is None, reason="there is no cargo here to build Fortanix' crate with")

ENCLAVE = SimulatedEnclave.from_name("Fortanix EDP")


class MisledEnclave(SimulatedEnclave):
    """An enclave that makes its reports for itself, whatever target it is given."""

    def create_report(self, target_info, report_data, **kwargs):
        return super().create_report(self.target_info(), report_data, **kwargs)


@pytest.fixture(scope="module")
def program() -> Path:
    return build()


def test_the_real_crate_gets_a_quote_that_verifies(program: Path) -> None:
    with running_helper() as helper:
        started = time.monotonic()
        got = quote_once(program, helper.socket, enclave=ENCLAVE)
        say(f"Fortanix' client got a quote: {time.monotonic() - started:.3f} s")
        verdict = QuoteVerifier(helper.state_dir).verify(got.quote, ENCLAVE, got.report_data)
    assert got.key_id == KEY
    assert verdict.ok, verdict.failures
    assert got.quote[564 + 320 :][:32] == got.pub_key_id
    qe_report = Report.parse(got.qe_report)
    ENCLAVE.verify_report(qe_report)
    assert qe_report.body.mr_enclave == TargetInfo.parse(got.target_info).mr_enclave
    assert qe_report.body.report_data == hashlib.sha256(got.nonce + got.quote).digest() + bytes(32)


def test_a_refusal_reaches_the_program_with_its_number(program: Path) -> None:
    """A report for another enclave than the quoting enclave: 42 for some time after a start, then 47."""
    misled = MisledEnclave.from_name("misled")
    with running_helper() as helper, pytest.raises(ConfcomError) as caught:
        quote_once(program, helper.socket, enclave=misled)
    assert re.fullmatch(r"aesm error code \w+_(42|47)", caught.value.why)


def test_a_missing_service_is_an_error(program: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfcomError) as caught:
        quote_once(program, tmp_path / "missing", enclave=ENCLAVE)
    assert "No such file or directory" in caught.value.why
