import pytest

from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Finding, Rejection
from confcom.verify.verdict import VerdictKind
from testkit.verify import tampering


@pytest.mark.parametrize("case", [*tampering.cases()], ids=lambda case: case.name)
def test_verifiers_and_our_verdict(lab, tampered, case):
    found = tampered[case.name]
    appraisal = found.appraisal()
    assert isinstance(appraisal, Appraisal) == case.accepted, appraisal
    if isinstance(appraisal, Rejection):
        assert appraisal.finding is not Finding.OTHER, appraisal.text
    verdict = found.verdict(lab.policy)
    assert verdict.kind is case.kind, [check.to_json() for check in verdict.failures]
    assert verdict.ok == (case.kind is VerdictKind.VERIFIED)
