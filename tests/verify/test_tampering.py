"""Each tampering, before three judges: dcap-qvl, Intel's QVL, and our verdict over dcap-qvl."""

from __future__ import annotations

import pytest

from confcom.verify.checks import dcap_qvl_appraisal
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Finding, Rejection
from confcom.verify.verdict import VerdictKind
from testkit.verify import intel_qvl, tampering
from testkit.verify.tampering import Case
from testkit.verify.verify_lab import Evidence, Lab

CASES = tuple(tampering.cases())


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def dcap_qvl(evidence: Evidence) -> Appraisal | Rejection:
    return dcap_qvl_appraisal.appraise(evidence.quote, evidence.trusted.der, evidence.collateral, evidence.now)


needs_qvl = pytest.mark.skipif(not intel_qvl.AVAILABLE, reason=intel_qvl.WHY_NOT)


def test_dcap_qvl(lab: Lab, evidence: Evidence, case: Case) -> None:
    result = dcap_qvl(case.tamper(lab, evidence))
    assert isinstance(result, Appraisal) == case.dcap_qvl, result
    if isinstance(result, Rejection):
        assert result.finding is not Finding.OTHER, result.text


@needs_qvl
def test_qvl(lab: Lab, evidence: Evidence, case: Case) -> None:
    rejections = intel_qvl.rejections(case.tamper(lab, evidence), evidence)
    assert (not rejections) == case.qvl, rejections


def test_our_verdict(lab: Lab, evidence: Evidence, case: Case) -> None:
    verdict = case.tamper(lab, evidence).verdict(lab.policy)
    assert verdict.kind is case.kind, [check.to_json() for check in verdict.failures]
    assert verdict.ok == (case.kind is VerdictKind.VERIFIED)


def test_no_case_is_only_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
