"""Simulated quotes of enclaves and of TDs, good ones and ones with defects, and the collateral that is served for them.

dcap-qvl agrees with each verdict: otherwise the check `verifiers-differ` would fail.
"""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from confcom.collateral import FetchError, fetch_collateral
from confcom.errors import MalformedError, SettingsError
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import SGX_QUOTE_VERSION, Quote
from confcom.sgx.simulation_marks import FMSPC, Mark
from confcom.sgx.tcb_documents import PLATFORM_STATUSES, TcbStatus
from confcom.simulation.trust_domain import report_as
from confcom.testing import Attestation, SimulatedEnclave, TeeType, report_data
from confcom.testing.collateral_service import serve_collateral
from confcom.verify import verify
from confcom.verify.checks.marks import REQUIRED_MARKS, CertifyingMarks, present_collateral_marks, present_marks
from testkit.expected_errors import raises
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED
from testkit.verify.td_lab import BODIES
from testkit.verify.verify_lab import failed_codes

KINDS = [None, *BODIES]
"""Bodies of TD quotes; None is a quote of an enclave."""
RELAUNCH = set(TcbStatus) - PLATFORM_STATUSES
DEMANDED = {"min_tcb_evaluation_number": 20}
DEFECTS = {
    "none": ({}, {}, VERIFIED, []),
    "another machine": ({"platform": "worker-2"}, {}, VERIFIED, []),
    "another kind of machine": ({"fmspc": b"SIMSXX"}, {}, VERIFIED, []),
    "debug": ({"debug": True}, {}, REFUSED, ["debug"]),
    "revoked": ({"revoked": True}, {}, FALSE, ["pck-revoked"]),
    "expired": ({"expired": True}, {}, UNUSABLE, ["collateral"]),
    "advisories": ({"advisories": ["INTEL-SA-00615"]}, {"accepted_advisories": []}, REFUSED, ["advisories"]),
    "evaluation": ({"evaluation": 19}, DEMANDED, REFUSED, ["tcb-evaluation"]),
    "a newer evaluation": ({"evaluation": 20}, DEMANDED, VERIFIED, []),
}


def made(attestation, kind, **settings):
    return attestation.td_quote(b"c", body=kind, **settings) if kind else attestation.quote(b"c", **settings)


def verdict_on(attestation, evidence, collateral=None, *, challenge=b"c", **demands):
    policy_for = attestation.policy if evidence.quote[0] == SGX_QUOTE_VERSION else attestation.td_policy
    policy = policy_for(challenge, **demands)
    return verify(evidence.quote, policy, collateral or evidence.collateral, evidence.root)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(attestation, kind, defect):
    settings, demands, *expected = DEFECTS[defect]
    verdict = verdict_on(attestation, made(attestation, kind, **settings), **demands)
    assert [verdict.kind, failed_codes(verdict)] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", TcbStatus)
def test_each_status(attestation, status, kind):
    if status in RELAUNCH and kind in {None, "1.0"}:
        with raises("wrong-value", SettingsError, "remedy"):
            made(attestation, kind, tcb=status)
        return
    verdict = verdict_on(attestation, made(attestation, kind, tcb=status))
    codes = {TcbStatus.UP_TO_DATE: [], TcbStatus.REVOKED: ["tcb-revoked"]}.get(status, ["tcb-status"])
    assert (verdict.tcb_status, failed_codes(verdict)) == (status, codes)


def svns(*first):
    return bytes(first).ljust(16, b"\0")


UNKNOWN_MODULE = ["tdx-module", "tcb-not-listed"]
TDS = {
    "no SEPT_VE_DISABLE": ({"td_attributes": 0}, ["td-attributes"], "UpToDate"),
    "service TD": ({"service_td": True}, ["service-td"], "UpToDate"),
    "an unknown module": ({"tee_tcb_svn": svns(2, 2, 2)}, UNKNOWN_MODULE, None),
    "no such current module": ({"tee_tcb_svn2": svns(3, 2, 2)}, UNKNOWN_MODULE, None),
    "both old": ({"tee_tcb_svn": svns(1, 1, 2), "tee_tcb_svn2": svns(1, 1, 2)}, ["tcb-status"], "OutOfDate"),
    "launched by an old one": ({"tee_tcb_svn": svns(1, 1, 2)}, ["tcb-status"], "TDRelaunchAdvised"),
    "now an old one": ({"tee_tcb_svn2": svns(1, 1, 2)}, [], "UpToDate"),
    "TDX_03": ({"tee_tcb_svn": svns(2, 3, 2), "tee_tcb_svn2": svns(2, 3, 2)}, [], "UpToDate"),
    "old microcode": ({"tee_tcb_svn": svns(2, 1, 1)}, ["tcb-status"], "TDRelaunchAdvised"),
    "version 0": ({"tee_tcb_svn": svns(2, 0, 2)}, [], "UpToDate"),
}


@pytest.mark.parametrize(("settings", "codes", "status"), TDS.values(), ids=TDS)
def test_a_tds_defect_is_found(attestation, settings, codes, status):
    verdict = verdict_on(attestation, attestation.td_quote(b"c", **settings))
    assert (failed_codes(verdict), verdict.tcb_status) == (codes, status)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_and_another_machine_are_found(attestation, kind):
    evidence, another = (made(attestation, kind, platform=name) for name in ("", "another"))
    assert failed_codes(verdict_on(attestation, evidence, challenge=b"new")) == ["report-data"]
    assert failed_codes(verdict_on(attestation, evidence, platforms=[another.platform_id])) == ["platform-id"]


@pytest.mark.parametrize("kind", KINDS)
def test_another_machine_has_collateral_of_its_own(attestation, kind):
    first, second = (made(attestation, kind, platform=name) for name in ("", "another"))
    alike = made(attestation, kind, platform="a twin", fmspc=FMSPC)
    assert len({evidence.platform_id for evidence in (first, second, alike)}) == 3
    refused = ["collateral-platform"]
    for evidence, other, codes in ((first, second, refused), (second, first, refused), (first, alike, [])):
        assert failed_codes(verdict_on(attestation, evidence, other.collateral)) == codes


@pytest.mark.parametrize("kind", BODIES)
def test_fields_and_marks_of_a_td(attestation, kind):
    fields = {"mr_td": b"\2" * 48, "rtmr3": b"\3" * 48, "mr_owner": b"\4" * 48}
    evidence = made(attestation, kind, **fields)
    quote = Quote.parse(evidence.quote)
    assert (quote.encode(), type(quote.body)) == (evidence.quote, BODIES[kind])
    assert quote.header.version == (4 if kind == "1.0" else 5)
    td = replace(attestation.td, report_data=report_data(b"c"), **fields)
    assert quote.body == report_as(BODIES[kind], td)
    chain = PckChain.from_quote(quote)
    certifying = CertifyingMarks.of(quote.signature, chain, chain.extension())
    assert REQUIRED_MARKS | {Mark.QE_MRSIGNER} <= present_marks(quote, certifying)
    assert REQUIRED_MARKS - certifying.all == {Mark.HEADER_USER_DATA}
    assert len(present_collateral_marks(evidence.collateral.read())) == 2
    assert quote.body.mr_signer_seam not in {bytes(48), quote.body.mr_seam}
    assert quote.signature.qe_report_body.isv_prod_id == evidence.collateral.read().qe_identity.isv_prod_id == 2


def test_keys_and_identities_are_of_the_td_quoting_enclave(attestation):
    enclaves, tds = attestation.quote(b"c"), attestation.td_quote(b"c")
    sgx, td = (Quote.parse(one.quote).signature for one in (enclaves, tds))
    assert sgx.certification == td.certification
    assert sgx.attestation_key != td.attestation_key
    assert sgx.qe_report_body.mr_signer != td.qe_report_body.mr_signer
    assert enclaves.platform_id == tds.platform_id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("machine", [{}, {"platform": "another"}, {"fmspc": "53494d530001"}])
def test_the_fixture_serves_collateral(attestation, collateral_source, machine, kind):
    evidence = made(attestation, kind, **machine)
    fetched = fetch_collateral(evidence.quote, collateral_source)
    assert fetched == evidence.collateral
    assert verdict_on(attestation, evidence, fetched).ok


SERVED = {
    "none": ({}, {}, []),
    "outdated": ({"tcb": "OutOfDate"}, {}, ["tcb-status"]),
    "revoked": ({"revoked": True}, {}, ["pck-revoked"]),
    "expired": ({"expired": True}, {}, ["collateral"]),
    "advisories": ({"advisories": ["INTEL-SA-00615"]}, {"rejected_advisories": ["INTEL-SA-00615"]}, ["advisories"]),
    "evaluation": ({"evaluation": 7}, {"min_tcb_evaluation_number": 8}, ["tcb-evaluation"]),
}


@pytest.mark.parametrize("kind", [None, "1.5"])
@pytest.mark.parametrize(("settings", "demands", "codes"), SERVED.values(), ids=SERVED)
def test_bad_collateral_is_served(attestation, kind, settings, demands, codes):
    evidence = made(attestation, kind)
    with serve_collateral(attestation, **settings) as source:
        fetched = fetch_collateral(evidence.quote, source, evaluation=settings.get("evaluation"))
    assert failed_codes(verdict_on(attestation, evidence, fetched, **demands)) == codes


def test_what_is_not_served(attestation, collateral_source):
    with raises("source-unknown-platform", FetchError, "why", "remedy"):
        fetch_collateral(attestation.quote(b"c").quote, collateral_source, evaluation=2)
    for path, status in (("tcb?fmspc=x", 400), ("tcb?fmspc=00906ed50000", 404), ("nothing", 404)):
        assert httpx2.get(collateral_source.base + path, trust_env=False).status_code == status
    assert httpx2.get(f"{collateral_source.base_of(TeeType.TDX)}pckcrl", trust_env=False).status_code == 404
    with serve_collateral(attestation, tcb="TDRelaunchAdvised") as source:
        td = attestation.td_quote(b"c")
        assert verdict_on(attestation, td, fetch_collateral(td.quote, source)).tcb_status == "TDRelaunchAdvised"
        with raises("source-unknown-platform", FetchError):
            fetch_collateral(attestation.quote(b"c").quote, source)


def test_every_run_has_a_root_of_its_own(attestation):
    other = Attestation.create()
    assert other.root.key_id != attestation.root.key_id
    evidence = other.quote(b"c")
    assert not verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, attestation.root).ok
    assert not verify(evidence.quote, attestation.policy(b"c"), evidence.collateral).ok


def test_another_enclave_and_another_td(attestation):
    enclave = SimulatedEnclave.from_name("another")
    assert failed_codes(verdict_on(attestation, attestation.quote(b"c", enclave=enclave))) == ["mr-enclave"]
    other = attestation.td_quote(b"c", mr_td=b"\2" * 48, rtmr1=b"\3" * 48)
    assert failed_codes(verdict_on(attestation, other)) == ["mr-td", "rtmr1"]
    assert Attestation.create(enclave).enclave == enclave


def test_another_time(attestation):
    """`now` moves the collateral's dates, and no certificate's."""
    now = datetime.now(UTC) + timedelta(days=400)
    evidence = attestation.quote(b"c", now=now)
    assert verify(evidence.quote, attestation.policy(b"c"), evidence.collateral, evidence.root, now).ok
    assert evidence.collateral.expires > now
    late = attestation.quote(b"c", now=now + timedelta(days=365 * 20))
    verdict = verify(late.quote, attestation.policy(b"c"), late.collateral, late.root, now + timedelta(days=365 * 20))
    assert {"root-validity", "signatures"} <= {check.code for check in verdict.failures}


WRONG = [
    ({"report_data": b""}, "report-data-size"),
    ({"report_data": bytes(65)}, "report-data-size"),
    ({"tcb": "Good"}, "wrong-value"),
    ({"advisories": ["SA-1"]}, "wrong-value"),
    ({"evaluation": -1}, "wrong-value"),
    ({"evaluation": "1"}, "wrong-type"),
    ({"fmspc": bytes.fromhex("00906ed50000")}, "wrong-value"),
    ({"fmspc": b"SIMS"}, "wrong-value"),
]
WRONG_FOR_TDS = [
    ({"body": "2.0"}, "wrong-value"),
    ({"body": "1.0", "service_td": True}, "wrong-value"),
    ({"mr_td": bytes(32)}, "wrong-size"),
    ({"td_attributes": 1 << 64}, "out-of-range"),
]
BOTH = (Attestation.quote, Attestation.td_quote)


@pytest.mark.parametrize(
    ("make", "arguments", "code"),
    [*((make, *row) for make in BOTH for row in WRONG), *((Attestation.td_quote, *row) for row in WRONG_FOR_TDS)],
)
def test_arguments_that_cannot_be_meant(attestation, make, arguments, code):
    of_a_field = code in {"wrong-size", "out-of-range"}
    with raises(code, MalformedError if of_a_field else SettingsError, *([] if of_a_field else ["remedy"])):
        make(attestation, **({"report_data": b"c"} | arguments))


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
