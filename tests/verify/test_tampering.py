from dataclasses import replace
from unittest.mock import ANY

import pytest

from confcom.errors import MalformedError
from confcom.sgx.tcb_documents import TcbStatus
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Appraiser
from confcom.verify.checks.trust_domain import Flaw
from confcom.verify.verdict import VerdictKind
from testkit.verify import tampering
from testkit.verify.intels_library import ACCEPTED, intels_status
from testkit.verify.td_lab import BODIES, POLICY, td_evidence
from testkit.verify.verify_lab import failed_codes

CASES = [
    *(("SGX", case) for case in tampering.cases()),
    *((kind, case) for kind in BODIES for case in tampering.cases(of_a_td=True)),
]


@pytest.mark.parametrize(("kind", "case"), CASES, ids=lambda one: getattr(one, "name", one))
def test_verifiers_and_our_verdict(lab, tampered, tampered_tds, monkeypatch, *, kind, case):
    """Our own judgement refuses every row alone, with a dcap-qvl that always agrees."""
    found, policy = (tampered[case.name], lab.policy) if kind == "SGX" else (tampered_tds[kind, case.name], POLICY)
    try:
        accepted = isinstance(found.appraisal(), Appraisal)
    except MalformedError:  # collateral that confcom cannot read is not passed to dcap-qvl
        accepted = False
    assert accepted == case.accepted
    for _ in range(2):
        verdict = found.verdict(policy)
        assert verdict.kind is case.kind, [check.to_json() for check in verdict.failures]
        assert verdict.ok == (case.kind is VerdictKind.VERIFIED)
        monkeypatch.setattr(Appraiser, "appraise", lambda *_: Appraisal(ANY, ANY))


CODES = {
    "tcb_info changed": "collateral-signature",
    "qe_identity signed by a stranger": "collateral-signature",
    "tcb_info signed by a PCK": "collateral-signer",
    "TCB signer expired": "collateral",
    "TCB signer revoked": "collateral-revoked",
    "pck_crl signed by a stranger's key": "collateral-crl",
    "root_ca_crl of a stranger": "collateral-crl",
    "PCK revocation list's chain of a stranger": "collateral-crl",
    "pck_crl of the TCB signer, which is no CA": "collateral-crl",
    "leaf revoked": "pck-revoked",
    "intermediate revoked": "pck-revoked",
    "root revoked in its own list": "pck-revoked",
    "TCB revoked": "tcb-revoked",
    "QE revoked": "tcb-revoked",
    "TCB components below every level": "tcb-not-listed",
    "QE below every level": "tcb-not-listed",
    "QE MRSIGNER another, signed": "qe-identity",
    "QE attributes: DEBUG, signed": "qe-identity",
    "vendor id not Intel's, signed": "qe-vendor",
    "version 4 of a TD, signed": "tee",
    "version 5 of a TD, signed": "tee",
    "version 4 of an enclave, signed": "unsupported-quote-version",
    "version 5 of an enclave, signed": "unsupported-quote-version",
    "auth data of 31 bytes, bound and signed": "signatures",
    "unknown critical extension in the leaf": "signatures",
}


@pytest.mark.parametrize(("name", "code"), CODES.items(), ids=CODES)
def test_the_code_says_what_is_wrong(lab, tampered, name, code):
    verdict = tampered[name].verdict(lab.policy)
    assert code in failed_codes(verdict)
    assert verdict.tcb_status == ("Revoked" if code == "tcb-revoked" else None)


DIFFERENCES = {
    "status": lambda appraisal: replace(appraisal, status=TcbStatus.OUT_OF_DATE),
    "advisories": lambda appraisal: replace(appraisal, advisory_ids=()),
    "rejection": lambda _: "Failed to verify certificate chain: CertRevoked",
    "rejection of a flaw that it does not have": lambda _: Flaw.DEBUG.value,
}


@pytest.mark.parametrize("change", DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_difference_between_the_verifiers_is_not_authentic(lab, evidence, change, monkeypatch):
    for found, policy in ((evidence, lab.policy), (td_evidence(lab), POLICY)):
        with monkeypatch.context() as patched:
            appraisal = change(found.appraisal())
            patched.setattr(Appraiser, "appraise", lambda *_, appraisal=appraisal: appraisal)
            verdict = found.verdict(policy)
        assert (verdict.kind, failed_codes(verdict)) == (VerdictKind.NOT_AUTHENTIC, ["verifiers-differ"])


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
