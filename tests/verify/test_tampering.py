import pytest

from confcom.errors import MalformedError
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal
from confcom.verify.verdict import VerdictKind
from testkit.verify import tampering
from testkit.verify.intels_library import ACCEPTED, intels_status


@pytest.mark.parametrize("case", [*tampering.cases()], ids=lambda case: case.name)
def test_verifiers_and_our_verdict(lab, tampered, case):
    found = tampered[case.name]
    appraisal = found.appraisal()
    assert isinstance(appraisal, Appraisal) == case.accepted, appraisal
    verdict = found.verdict(lab.policy)
    assert verdict.kind is case.kind, [check.to_json() for check in verdict.failures]
    assert verdict.ok == (case.kind is VerdictKind.VERIFIED)


BOTH_ACCEPT = {
    *("leaf with Intel's common name", "whole chain reissued with Intel's names", "root not marked as simulated"),
    *("tcb_info of another TCB recovery", "qe_identity of another TCB recovery", "leaf, root, intermediate"),
    "PCK revocation list's chain of a stranger",
}


@pytest.mark.parametrize("case", [*tampering.cases()], ids=lambda case: case.name)
def test_what_dcap_qvl_accepts_intels_library_refuses(lab, tampered, case):
    """Exceptions are marks of simulation and TCB recoveries, which both verifiers overlook."""
    try:
        accepted = intels_status(tampered[case.name]) == ACCEPTED
    except MalformedError:  # Intel's binding needs separate certificates
        accepted = False
    assert accepted or not tampered[case.name].verdict(lab.policy).ok
    if case.accepted:
        assert accepted is (case.name in BOTH_ACCEPT or case.name.startswith("mark removed:"))
