import subprocess
import sys
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from confcom.collateral import FetchError, fetch_collateral
from confcom.errors import SettingsError
from confcom.sgx.simulation_marks import FMSPC
from confcom.sgx.tcb_documents import PLATFORM_STATUSES, TcbStatus
from confcom.testing import Attestation, SimulatedEnclave, report_data
from confcom.testing.collateral_service import serve_collateral
from confcom.verify import verify
from testkit.expected_errors import raises
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED
from testkit.verify.verify_lab import failed_codes

OTHER = SimulatedEnclave.from_name("another")
DEFECTS = {
    "none": ({}, VERIFIED, []),
    "another machine": ({"platform": "worker-2"}, VERIFIED, []),
    "debug": ({"debug": True}, REFUSED, ["debug"]),
    "revoked": ({"revoked": True}, FALSE, ["pck-revoked"]),
    "expired": ({"expired": True}, UNUSABLE, ["collateral"]),
    "another enclave": ({"enclave": OTHER}, REFUSED, ["mr-enclave"]),
    "advisories": ({"advisories": ["INTEL-SA-00615"], "demands": {"accepted_advisories": []}}, REFUSED, ["advisories"]),
    "evaluation": ({"evaluation": 19, "demands": {"min_tcb_evaluation_number": 20}}, REFUSED, ["tcb-evaluation"]),
    "a newer evaluation": ({"evaluation": 20, "demands": {"min_tcb_evaluation_number": 20}}, VERIFIED, []),
    "another kind of machine": ({"fmspc": b"SIMSXX"}, VERIFIED, []),
    "TCB revoked": ({"tcb": "Revoked"}, FALSE, ["tcb-revoked"]),
    **{
        status.value: ({"tcb": status}, REFUSED, ["tcb-status"])
        for status in PLATFORM_STATUSES - {TcbStatus.UP_TO_DATE, TcbStatus.REVOKED}
    },
}


def verdict_on(evidence, policy, collateral=None):
    return verify(evidence.quote, policy, collateral or evidence.collateral, evidence.root)


@pytest.mark.parametrize(("defect", "kind", "codes"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_found(attestation, defect, kind, codes):
    demands = defect.get("demands", {})
    evidence = attestation.quote(b"c", **{name: value for name, value in defect.items() if name != "demands"})
    verdict = verdict_on(evidence, attestation.policy(b"c", **demands))
    assert (verdict.kind, failed_codes(verdict)) == (kind, codes)


def test_a_replay_and_another_machine_are_found(attestation):
    evidence = attestation.quote(b"old")
    assert failed_codes(verdict_on(evidence, attestation.policy(b"new"))) == ["report-data"]
    policy = attestation.policy(b"old", platforms=[attestation.quote(b"old", platform="another").platform_id])
    assert failed_codes(verdict_on(evidence, policy)) == ["platform-id"]


def test_another_machine_has_collateral_of_its_own(attestation):
    first, second = attestation.quote(b"c"), attestation.quote(b"c", platform="another")
    alike = attestation.quote(b"c", platform="a twin", fmspc=FMSPC)
    assert len({evidence.platform_id for evidence in (first, second, alike)}) == 3
    refused = ["collateral-platform"]
    for evidence, other, codes in ((first, second, refused), (second, first, refused), (first, alike, [])):
        assert failed_codes(verdict_on(evidence, attestation.policy(b"c"), other.collateral)) == codes


@pytest.mark.parametrize("machine", [{}, {"platform": "another"}, {"fmspc": "53494d530001"}])
def test_the_fixture_serves_collateral(attestation, collateral_source, machine):
    evidence = attestation.quote(b"c", **machine)
    fetched = fetch_collateral(evidence.quote, collateral_source)
    assert fetched == evidence.collateral
    assert verdict_on(evidence, attestation.policy(b"c"), fetched).ok


SERVED = {
    "none": ({}, {}, []),
    "outdated": ({"tcb": "OutOfDate"}, {}, ["tcb-status"]),
    "revoked": ({"revoked": True}, {}, ["pck-revoked"]),
    "expired": ({"expired": True}, {}, ["collateral"]),
    "advisories": ({"advisories": ["INTEL-SA-00615"]}, {"rejected_advisories": ["INTEL-SA-00615"]}, ["advisories"]),
    "evaluation": ({"evaluation": 7}, {"min_tcb_evaluation_number": 8}, ["tcb-evaluation"]),
}


@pytest.mark.parametrize(("settings", "demands", "codes"), SERVED.values(), ids=SERVED)
def test_bad_collateral_is_served(attestation, settings, demands, codes):
    evidence = attestation.quote(b"c")
    with serve_collateral(attestation, **settings) as source:
        fetched = fetch_collateral(evidence.quote, source, evaluation=settings.get("evaluation"))
    assert failed_codes(verdict_on(evidence, attestation.policy(b"c", **demands), fetched)) == codes


def test_what_is_not_served(attestation, collateral_source):
    with raises("source-unknown-platform", FetchError, "why", "remedy"):
        fetch_collateral(attestation.quote(b"c").quote, collateral_source, evaluation=2)
    for path, status in (("tcb?fmspc=x", 400), ("tcb?fmspc=00906ed50000", 404), ("nothing", 404)):
        assert httpx2.get(collateral_source.base + path, trust_env=False).status_code == status


def test_every_run_has_a_root_of_its_own(attestation):
    other = Attestation.create()
    assert other.root.key_id != attestation.root.key_id
    evidence = other.quote(b"c")
    assert not verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, attestation.root).ok
    assert not verify(evidence.quote, attestation.policy(b"c"), evidence.collateral).ok


def test_another_time(attestation):
    """`now` moves the collateral's dates, and no certificate's."""
    now = datetime.now(UTC) + timedelta(days=400)
    evidence = attestation.quote(b"c", now=now)
    assert verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, evidence.root, now).ok
    assert evidence.collateral.expires > now
    late = attestation.quote(b"c", now=now + timedelta(days=365 * 20))
    verdict = verify(late.quote, attestation.policy(b"c"), late.collateral, late.root, now + timedelta(days=365 * 20))
    assert {"root-validity", "signatures"} <= {check.code for check in verdict.failures}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"report_data": b""}, "report-data-size"),
        ({"report_data": bytes(65)}, "report-data-size"),
        ({"tcb": "Good"}, "wrong-value"),
        ({"advisories": ["SA-1"]}, "wrong-value"),
        ({"evaluation": -1}, "wrong-value"),
        ({"evaluation": "1"}, "wrong-type"),
        ({"fmspc": bytes.fromhex("00906ed50000")}, "wrong-value"),
        ({"fmspc": b"SIMS"}, "wrong-value"),
    ],
)
def test_arguments_that_cannot_be_meant(attestation, arguments, code):
    with raises(code, SettingsError, "remedy"):
        attestation.quote(**({"report_data": b"c"} | arguments))


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
