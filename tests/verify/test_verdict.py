import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from confcom.errors import ExitCode, SettingsError
from confcom.sgx.certificates import INTEL_ROOT_KEY_ID
from confcom.sgx.simulation_marks import ADVISORY_ID, SIMULATION_MEMBER, Mark
from confcom.sgx.tcb_documents import TcbStatus
from confcom.simulation.enclave import SimulatedEnclave
from confcom.verify.checks import dcap_qvl_appraisal
from confcom.verify.checks.authorisation import debug_check, platform_check
from confcom.verify.checks.marks import collateral_marks_check
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.trust import Platform, intel_root
from confcom.verify.verdict import CheckStatus, SgxClaims, failed, kind_of, not_checked, passed
from confcom.verify.verifier import verify_quote
from testkit.expected_errors import raises
from testkit.verify import tampering
from testkit.verify.genuine_quotes import VECTORS
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED
from testkit.verify.verify_lab import CHALLENGE, NOW, check_of, failed_codes

FAR_WEST_IN_9999 = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-9)))
IN_2024 = datetime(2024, 1, 1, tzinfo=UTC)

DEBUG = SimulatedEnclave.from_name("app", debug=True)


@pytest.mark.parametrize(
    ("changes", "kind", "failures"),
    [
        ({}, VERIFIED, []),
        ({"allow_debug": True}, VERIFIED, []),
        ({"isv_prod_id": 0, "min_isv_svn": 0}, VERIFIED, []),
        ({"allow_simulated": False}, REFUSED, ["platform"]),
        ({"mr_enclave": None}, REFUSED, ["identity"]),
        ({"mr_enclave": None, "mr_signer": SimulatedEnclave.from_name("app").mr_signer}, VERIFIED, []),
        ({"report_data": None}, REFUSED, ["report-data"]),
        ({"mr_enclave": bytes(32)}, REFUSED, ["mr-enclave"]),
        ({"mr_signer": bytes(32)}, REFUSED, ["mr-signer"]),
        ({"report_data": bytes(64)}, REFUSED, ["report-data"]),
        ({"isv_prod_id": 1}, REFUSED, ["isv-prod-id"]),
        ({"min_isv_svn": 1}, REFUSED, ["isv-svn"]),
        ({"config_id": bytes(64), "isv_ext_prod_id": bytes(16), "isv_family_id": bytes(16)}, VERIFIED, []),
        ({"accepted_tcb_statuses": frozenset({TcbStatus.OUT_OF_DATE})}, REFUSED, ["tcb-status"]),
        ({"accepted_tcb_statuses": frozenset()}, REFUSED, ["tcb-status"]),
        ({"rejected_advisories": frozenset({"SIMULATED-NOT-GENUINE-INTEL"})}, REFUSED, ["advisories"]),
        ({"rejected_advisories": frozenset({"INTEL-SA-00334"})}, VERIFIED, []),
        (
            {"mr_enclave": None, "report_data": None, "allow_simulated": False},
            REFUSED,
            ["platform", "identity", "report-data"],
        ),
    ],
)
def test_policy(lab, evidence, changes, kind, failures):
    verdict = evidence.verdict(replace(lab.policy, **changes))
    assert verdict.kind is kind
    assert failed_codes(verdict) == failures
    assert verdict.ok == (kind is VERIFIED)
    assert verdict.platform is Platform.SIMULATED
    assert verdict.claims is not None
    assert verdict.claims.mr_enclave == lab.enclave.mr_enclave


@pytest.mark.parametrize("status", [status.value for status in TcbStatus])
def test_a_quoting_enclave_is_up_to_date_only_by_that_status(lab, evidence, status):
    """dcap-qvl takes every status that a quoting enclave cannot have as UpToDate."""
    tampered = tampering.status("qe_identity", status)(lab, evidence)
    assert tampered.verdict(lab.policy).ok == (status == "UpToDate")


@pytest.mark.parametrize(
    ("demand", "failures"),
    [
        ({}, []),
        ({"allow_debug": False}, ["debug"]),
        ({"rejected_advisories": frozenset({"INTEL-SA-00334"})}, []),
        ({"rejected_advisories": frozenset({ADVISORY_ID})}, ["advisories"]),
        ({"accepted_tcb_statuses": frozenset()}, ["tcb-status"]),
        ({"accepted_tcb_statuses": frozenset({TcbStatus.OUT_OF_DATE})}, ["tcb-status"]),
        ({"accepted_tcb_statuses": frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE})}, []),
    ],
)
def test_debug_enclave_of_a_simulated_platform(lab, demand, failures):
    """A policy refuses the quote if it demands a property that no verifier judges for debug enclaves."""
    verdict = lab.evidence(enclave=DEBUG).verdict(replace(lab.policy, **{"allow_debug": True} | demand))
    assert failed_codes(verdict) == failures
    assert verdict.kind is (REFUSED if failures else VERIFIED)
    assert check_of(verdict, "appraisal").status is CheckStatus.NOT_CHECKED
    assert verdict.tcb_status == "UpToDate"


def test_allowing_debug_lets_no_other_defect_through(lab):
    evidence = lab.evidence(enclave=DEBUG)
    policy = replace(lab.policy, allow_debug=True)
    kinds = {case: case.tamper(lab, evidence).verdict(policy).kind for case in tampering.cases()}
    accepted = {case.name for case, kind in kinds.items() if kind is VERIFIED}
    harmless = {case.name for case in kinds if case.kind is VERIFIED}
    assert accepted == harmless | {"DEBUG enclave"}
    assert [case.name for case, kind in kinds.items() if case.kind is FALSE and kind is not FALSE] == []


def test_debug_is_refused_on_hardware(lab):
    claims = SgxClaims.of(lab.evidence(enclave=DEBUG).parsed.body)
    for platform in (Platform.GENUINE, Platform.UNKNOWN):
        made = debug_check(claims, platform, replace(lab.policy, allow_debug=True))
        assert (made.status, made.consequence) == (CheckStatus.FAILED, REFUSED)


def test_genuine_quotes_are_rejected_whatever_the_policy():
    quote = (VECTORS / "quote_pck_cert_chain.bin").read_bytes()
    everything = SgxPolicy(
        mr_enclave=quote[112:144],
        report_data=quote[368:432],
        allow_simulated=True,
        allow_debug=True,
        accepted_tcb_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED},
    )
    verdict = verify_quote(quote, intel_root(), None, everything, IN_2024)
    assert verdict.kind is UNUSABLE, "without collateral nobody knows whether it is revoked"
    assert verdict.platform is Platform.GENUINE
    assert failed_codes(verdict) == ["debug", "collateral"]
    assert check_of(verdict, "signatures").status is check_of(verdict, "root").status is CheckStatus.PASSED
    assert verdict.claims is None
    assert intel_root().key_id == INTEL_ROOT_KEY_ID
    without_certificates = (VECTORS / "quote_raw_tcb.bin").read_bytes()
    verdict = verify_quote(without_certificates, intel_root(), None, SgxPolicy(), IN_2024)
    assert (verdict.kind, failed_codes(verdict)) == (UNUSABLE, ["format"])
    assert "type 3 " in check_of(verdict, "format").found
    assert check_of(verdict, "format").why


@pytest.mark.parametrize(
    ("offset", "kind", "failures"),
    [
        (timedelta(days=29) - timedelta(seconds=1), VERIFIED, []),
        (timedelta(days=30), UNUSABLE, ["collateral"]),
        (timedelta(days=-1), VERIFIED, []),
        (timedelta(days=-1, seconds=-1), FALSE, ["root-validity", "signatures", "collateral"]),
        (timedelta(days=365 * 21), FALSE, ["root-validity", "signatures", "collateral"]),
    ],
)
def test_time_is_explicit(lab, evidence, offset, kind, failures):
    verdict = replace(evidence, now=NOW + offset).verdict(lab.policy)
    assert verdict.kind is kind
    assert [code for code in failed_codes(verdict) if code != "marks"] == failures


@pytest.mark.parametrize("now", [datetime(2026, 11, 24), datetime(1969, 1, 1, tzinfo=UTC), FAR_WEST_IN_9999])  # noqa: DTZ001 (the naive time is the test)
def test_time_without_zone_or_before_the_epoch_is_refused(lab, evidence, now):
    with raises("wrong-value", SettingsError, "why", "remedy"):
        replace(evidence, now=now).verdict(lab.policy)


def test_only_intels_and_requested_simulated_platforms_pass():
    asking, silent = SgxPolicy(allow_simulated=True), SgxPolicy()
    pairs = [(platform, policy) for platform in Platform for policy in (silent, asking)]
    passing = [pair for pair in pairs if platform_check(*pair).status is CheckStatus.PASSED]
    assert passing == [(Platform.GENUINE, silent), (Platform.GENUINE, asking), (Platform.SIMULATED, asking)]


def test_a_third_partys_platform_is_unknown_and_never_enough(lab, evidence):
    verdict = tampering.unmarked_root(lab, evidence).verdict(lab.policy)
    assert (verdict.ok, verdict.platform) == (False, Platform.UNKNOWN)
    assert failed_codes(verdict) == ["marks", "collateral-marks"]
    verdict = tampering.third_party(lab).verdict(replace(lab.policy, mr_enclave=lab.enclave.mr_enclave))
    assert (verdict.kind, verdict.platform) == (REFUSED, Platform.UNKNOWN)
    assert failed_codes(verdict) == ["platform"]
    assert verdict.marks == (Mark.QE_MRSIGNER.value,)


@pytest.mark.parametrize("part", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize("mark", [Mark.ADVISORY, Mark.COLLATERAL_MEMBER])
def test_marked_collateral_is_no_other_platforms(lab, part, mark):
    def edit(document):
        if mark is Mark.ADVISORY:
            document["tcbLevels"][-1]["advisoryIDs"] = [ADVISORY_ID]
        else:
            document[SIMULATION_MEMBER] = {"genuine": True}

    verdict = lab.edit_json(tampering.third_party(lab), part, edit).verdict(lab.policy)
    assert verdict.kind is FALSE
    assert failed_codes(verdict) == ["collateral-marks"]
    assert check_of(verdict, "collateral-marks").found == mark.value
    assert mark.value in verdict.marks


def test_genuine_platforms_have_no_marked_collateral(lab, evidence):
    plain, marked = tampering.third_party(lab).collateral.read(), evidence.collateral.read()
    assert collateral_marks_check(plain, Platform.GENUINE).status is CheckStatus.PASSED
    assert collateral_marks_check(marked, Platform.GENUINE).consequence is FALSE
    assert collateral_marks_check(marked, Platform.SIMULATED).status is CheckStatus.PASSED
    assert collateral_marks_check(plain, Platform.SIMULATED).consequence is FALSE


def test_what_is_not_authentic_never_reaches_dcap_qvl(lab, evidence, tampered, monkeypatch):
    """Some input makes dcap-qvl 0.7.0 abort the process, which no caller could catch."""
    asked = []
    monkeypatch.setattr(dcap_qvl_appraisal.Appraiser, "appraise", lambda *_: asked.append(1) or "")
    evidence.verdict(lab.policy)
    assert asked == [1]
    for name, found in tampered.items():
        asked.clear()
        verdict = found.verdict(lab.policy)
        refuted = {failure.code for failure in verdict.failures if failure.consequence in {FALSE, UNUSABLE}}
        assert bool(asked) == (refuted <= {"verifiers-differ"}), name


def test_the_gravest_consequence_decides():
    fine = passed("", "", code="a")
    refused, unusable, false = (failed("", "", "", kind, code="b") for kind in (REFUSED, UNUSABLE, FALSE))
    assert kind_of([]) is VERIFIED
    assert kind_of([fine, not_checked("", "", code="e")]) is VERIFIED
    assert kind_of([fine, refused]) is REFUSED
    assert kind_of([refused, unusable]) is UNUSABLE
    assert kind_of([unusable, false, refused]) is FALSE
    exit_codes = [kind.exit_code for kind in (VERIFIED, REFUSED, FALSE, UNUSABLE)]
    assert exit_codes == [ExitCode.OK, ExitCode.NOT_AUTHORISED, ExitCode.NOT_AUTHENTIC, ExitCode.UNUSABLE]


def test_json_carries_every_check(lab, evidence):
    verdict = evidence.verdict(lab.policy)
    document = json.loads(json.dumps(verdict.to_json()))
    assert document["ok"] is True
    assert document["kind"] == "verified"
    assert document["platform"] == "simulated"
    assert document["claims"]["report_data"] == CHALLENGE.hex()
    assert [entry["code"] for entry in document["checks"]] == [check.code for check in verdict.checks]
    assert all(entry["name"] == entry["code"].replace("-", "_") for entry in document["checks"])
    assert all(entry["required"] for entry in document["checks"])
    marks = {mark.value for mark in (Mark.HEADER_USER_DATA, Mark.ADVISORY, Mark.COLLATERAL_MEMBER)}
    assert marks <= set(document["marks"])
    assert Mark.ADVISORY.value in check_of(verdict, "collateral-marks").found
