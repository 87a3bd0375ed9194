import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from confcom.errors import SettingsError
from confcom.sgx.tcb_documents import TcbStatus
from confcom.testing import Attestation, SimulatedEnclave, report_data
from confcom.verify import verify
from testkit.expected_errors import raises
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED

OTHER = SimulatedEnclave.from_name("another")
DEFECTS = {
    "none": ({}, VERIFIED, []),
    "another machine": ({"platform": "worker-2"}, VERIFIED, []),
    "debug": ({"debug": True}, REFUSED, ["debug"]),
    "revoked": ({"revoked": True}, FALSE, ["pck-revoked"]),
    "expired": ({"expired": True}, UNUSABLE, ["collateral"]),
    "another enclave": ({"enclave": OTHER}, REFUSED, ["mr-enclave"]),
    "TCB revoked": ({"tcb": "Revoked"}, FALSE, ["tcb-revoked"]),
    **{
        status.value: ({"tcb": status}, REFUSED, ["tcb-status"])
        for status in TcbStatus
        if status not in {TcbStatus.UP_TO_DATE, TcbStatus.REVOKED}
    },
}


@pytest.mark.parametrize(("defect", "kind", "codes"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_found(attestation, defect, kind, codes):
    evidence = attestation.quote(b"c", **defect)
    verdict = verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, evidence.root)
    assert (verdict.kind, [check.code for check in verdict.failures]) == (kind, codes)


def test_a_replay_and_another_machine_are_found(attestation):
    evidence = attestation.quote(b"old")
    verdict = verify(evidence.quote, attestation.policy(b"new"), evidence.collateral, evidence.root)
    assert [check.code for check in verdict.failures] == ["report-data"]
    policy = attestation.policy(b"old", platforms=[attestation.quote(b"old", platform="another").platform_id])
    verdict = verify(evidence.quote, policy, evidence.collateral, evidence.root)
    assert [check.code for check in verdict.failures] == ["platform-id"]


def test_every_run_has_a_root_of_its_own(attestation):
    other = Attestation.create()
    assert other.root.key_id != attestation.root.key_id
    evidence = other.quote(b"c")
    assert not verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, attestation.root).ok
    assert not verify(evidence.quote, attestation.policy(b"c"), evidence.collateral).ok


def test_another_time(attestation):
    now = datetime.now(UTC) + timedelta(days=400)
    evidence = attestation.quote(b"c", now=now)
    assert verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, evidence.root, now).ok


@pytest.mark.parametrize(
    "arguments", [{"report_data": b""}, {"report_data": bytes(65)}, {"report_data": b"c", "tcb": "Good"}]
)
def test_arguments_that_cannot_be_meant(attestation, arguments):
    with raises("wrong-value" if "tcb" in arguments else "report-data-size", SettingsError, "remedy"):
        attestation.quote(**arguments)


PROGRAM = """
def test_it(attestation):
    assert attestation.quote(b"c").quote[:2] == b"\\3\\0"
def test_another():
    assert True
"""


def test_the_plugin_imports_nothing_until_it_is_used(tmp_path):
    (tmp_path / "test_it.py").write_text(PROGRAM)
    show = "import sys, pytest; pytest.main(sys.argv[1:]); print('confcom.testing.attestation' in sys.modules)"
    for chosen, loaded in (("test_another", "False"), ("test_it", "True")):
        command = [sys.executable, "-c", show, "-q", "-p", "no:randomly", f"{tmp_path}/test_it.py::{chosen}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.splitlines()[-1] == loaded, done.stdout + done.stderr
        assert "1 passed" in done.stdout
    assert report_data(b"c") == b"c" + bytes(63)
