import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from confcom.quote_provider.state_directory import open_or_create_platform
from confcom.sgx.signed_json import SignedJson
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.td_report import TdReport10, TdReport15
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.simulated_collateral import RENEWAL_INTERVAL, create_evaluation_numbers
from confcom.verify.prepared_collateral import Collateral
from testkit.programs import run_confcom
from testkit.verify.genuine_quotes import VECTORS
from testkit.verify.intels_library import ACCEPTED, intels_status, intels_statuses
from testkit.verify.td_lab import TdxLab
from testkit.verify.verify_lab import NOW, Lab

LAB, TDX_LAB = Lab(), TdxLab()
REFUSED = "authentic-not-authorised"
OUT_OF_DATE = (2, REFUSED, "OutOfDate", "STATUS_TCB_OUT_OF_DATE")
TABLE = {
    (Staging.NONE, False): (1, "verified", "UpToDate", "STATUS_OK"),
    (Staging.NONE, True): (1, "verified", "UpToDate", "STATUS_OK"),
    (Staging.EARLY, False): (1, "verified", "UpToDate", "STATUS_OK"),
    (Staging.EARLY, True): OUT_OF_DATE,
    (Staging.OUT_OF_DATE, False): OUT_OF_DATE,
    (Staging.CONFIGURATION_NEEDED, False): (2, REFUSED, "ConfigurationNeeded", "STATUS_TCB_CONFIGURATION_NEEDED"),
    (Staging.SW_HARDENING_NEEDED, False): (2, REFUSED, "SWHardeningNeeded", "STATUS_TCB_SW_HARDENING_NEEDED"),
    (Staging.RELAUNCH_ADVISED, False): (2, "verified", "UpToDate", "STATUS_OK"),
    (Staging.REVOKED, False): (2, "not-authentic", "refused", "STATUS_TCB_REVOKED"),
    (Staging.EXPIRED, False): (1, "unusable", "refused", "STATUS_SGX_CRL_EXPIRED"),
}
"""Evaluation number, our verdict, dcap-qvl's and Intel's worst status, keyed by staging and `early`."""
RELAUNCH = {TdReport10: (2, REFUSED, "OutOfDate"), TdReport15: (2, REFUSED, "TDRelaunchAdvised")}
"""The same of a TD, keyed by its report."""


def staged(lab, staging, *, early=False, **of_a_td):
    return replace(lab.evidence(**of_a_td), collateral=lab.collateral(staging=staging, early=early))


@pytest.mark.parametrize("td_body", [None, *RELAUNCH])
@pytest.mark.parametrize(("staging", "early"), TABLE)
def test_our_verdict_beside_dcap_qvls_status(staging, early, td_body):
    lab, of_a_td = (TDX_LAB, {"codec": td_body}) if td_body else (LAB, {})
    relaunched = RELAUNCH.get(td_body) if staging is Staging.RELAUNCH_ADVISED else None
    number, kind, status = relaunched or TABLE[staging, early][:3]
    evidence = staged(lab, staging, early=early, **of_a_td)
    verdict, appraisal = evidence.verdict(lab.policy), evidence.appraisal()
    assert evidence.collateral.evaluation_number == number
    assert (verdict.kind.value, verdict.ok) == (kind, kind == "verified")
    assert ("refused" if isinstance(appraisal, str) else appraisal.status.value) == status
    if status == "refused":
        lenient = replace(lab.policy, accepted_tcb_statuses=set(TcbStatus) - {TcbStatus.REVOKED})
        assert not evidence.verdict(lenient).ok
    else:
        accepting = replace(lab.policy, accepted_tcb_statuses=[status])
        assert evidence.verdict(accepting).ok
        assert evidence.verdict(replace(accepting, min_tcb_evaluation_number=2)).ok is (number == 2)


@pytest.mark.parametrize(("staging", "early"), TABLE)
def test_none_is_accepted_that_intels_library_refuses(staging, early):
    evidence, of_a_td = (staged(lab, staging, early=early) for lab in (LAB, TDX_LAB))
    found = intels_status(evidence)
    assert found == TABLE[staging, early][-1]
    assert evidence.verdict(LAB.policy).ok is (found == ACCEPTED)
    assert (set(intels_statuses(of_a_td)[:3]) == {ACCEPTED}) is (staging is not Staging.EXPIRED)


@pytest.mark.parametrize("tee", TeeType)
def test_staging_changes_only_what_the_collateral_says(tee):
    plain = LAB.platform.collateral(NOW, tee=tee)
    for staging in Staging:
        collateral = LAB.platform.collateral(NOW, staging=staging, tee=tee)
        other_days = staging is Staging.EXPIRED
        assert (collateral.pck_crl == plain.pck_crl) is (collateral.root_ca_crl == plain.root_ca_crl) is not other_days
        assert collateral.tcb_info_issuer_chain == plain.tcb_info_issuer_chain
        later = NOW + RENEWAL_INTERVAL - timedelta(seconds=1)
        assert LAB.platform.collateral(later, staging=staging, tee=tee) == collateral
    assert LAB.platform.collateral(NOW, staging=Staging.EARLY, tee=tee) == plain


def test_a_recovery_needs_components_of_different_kinds():
    tcb_info = LAB.platform.collateral(NOW, staging=Staging.OUT_OF_DATE, tee=TeeType.TDX).read().tcb_info
    newer, own, _ = tcb_info.levels
    pairs = zip(newer.svns, own.svns, strict=True)
    raised = [number for number, (needed, present) in enumerate(pairs) if needed > present]
    kinds = (*newer.component_kinds[:16], None, *newer.component_kinds[16:])  # the PCE has no kind
    assert [(kinds[number].category, kinds[number].type) for number in raised] == [
        ("BIOS", "Early Microcode Update"),
        ("OS/VMM", "SGX Late Microcode Update"),
        ("OS/VMM", "TDX Module"),
    ]
    for_sgx = LAB.platform.collateral(NOW, staging=Staging.OUT_OF_DATE).read().tcb_info
    assert [(level.svns, level.component_kinds) for level in for_sgx.levels] == [
        (level.svns[:17], level.component_kinds[:16]) for level in tcb_info.levels
    ]


def test_the_kinds_of_components_are_intels():
    intels = Collateral.from_json((VECTORS / "tdx_quote_td15ex_collateral.json").read_bytes()).read().tcb_info
    simulated = LAB.platform.collateral(NOW, tee=TeeType.TDX).read().tcb_info
    assert {level.component_kinds for level in simulated.levels} == {intels.levels[0].component_kinds}
    assert simulated.tdx_modules.keys() == intels.tdx_modules.keys()


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=14), timedelta(days=400)])
def test_expired_is_expired_at_any_time(age):
    now = NOW + age
    documents = LAB.platform.collateral(now, staging=Staging.EXPIRED).read()
    assert all(begin < end < now for _, begin, end in documents.periods)


@pytest.mark.parametrize("tee", TeeType)
@pytest.mark.parametrize("staging", Staging)
def test_the_list_of_numbers_is_signed_and_of_intels_form(staging, tee):
    numbers = create_evaluation_numbers(LAB.platform.pki, NOW, staging, tee)
    signed = SignedJson.parse(numbers, "tcbEvaluationDataNumbers")
    halves = (int.from_bytes(signed.signature[:32], "big"), int.from_bytes(signed.signature[32:], "big"))
    key = LAB.platform.pki.tcb_signer.private_key.public_key()
    key.verify(utils.encode_dss_signature(*halves), signed.body, ec.ECDSA(SHA256()))
    document = json.loads(signed.body)
    assert (document["id"], document["version"]) == (tee.name, 1)
    rows = [(row["tcbEvaluationDataNumber"], row["tcbRecoveryEventDate"]) for row in document["tcbEvalNumbers"]]
    assert [number for number, _ in rows] == list(staging.numbers)
    year_ago = (NOW - timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert all((date <= year_ago) is (number == 1) for number, date in rows)  # so clients find the standard set


def test_a_staged_platform_is_exported(tmp_path):
    open_or_create_platform(tmp_path / "state")
    numbers = {}
    for name, options in {
        "a": (),
        "b": ("--staging", "early"),
        "c": ("--staging", "early", "--early"),
        "d": ("--staging", "revoked"),
    }.items():
        state = ("--state-dir", tmp_path / "state")
        done = run_confcom("simulation", "export", *state, *options, tmp_path / name, "-o", "json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["staging"] == (options[1] if options else "none")
        tcb_info = json.loads((tmp_path / name / "collateral" / "tcb_info.json").read_text())["tcbInfo"]
        numbers[name] = tcb_info["tcbEvaluationDataNumber"]
    assert numbers == {"a": 1, "b": 1, "c": 2, "d": 2}
