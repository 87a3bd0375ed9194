"""Each tampering, before three judges: dcap-qvl, Intel's QVL, and our verdict over dcap-qvl."""

import pytest

from confcom.verify.checks import dcap_qvl_appraisal
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Finding, Rejection
from confcom.verify.verdict import VerdictKind
from testkit.verify import intel_qvl, tampering

CASES = pytest.mark.parametrize("case", [*tampering.cases()], ids=lambda case: case.name)


@CASES
def test_verifiers_and_our_verdict(lab, evidence, case):
    tampered = case.tamper(lab, evidence)
    collateral, now = tampered.collateral, tampered.now
    appraisal = dcap_qvl_appraisal.appraise(tampered.quote, tampered.trusted.der, collateral, now)
    assert isinstance(appraisal, Appraisal) == (case.accepted_by >= tampering.DCAP), appraisal
    if isinstance(appraisal, Rejection):
        assert appraisal.finding is not Finding.OTHER, appraisal.text
    verdict = tampered.verdict(lab.policy)
    assert verdict.kind is case.kind, [check.to_json() for check in verdict.failures]
    assert verdict.ok == (case.kind is VerdictKind.VERIFIED)


@pytest.mark.skipif(not intel_qvl.AVAILABLE, reason=intel_qvl.WHY_NOT)
@CASES
def test_qvl(lab, evidence, case):
    rejections = intel_qvl.rejections(case.tamper(lab, evidence), evidence)
    assert (not rejections) == (case.accepted_by >= tampering.QVL), rejections
