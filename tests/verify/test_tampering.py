from dataclasses import replace
from unittest.mock import ANY

import pytest

from confcom.errors import MalformedError
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Appraiser
from confcom.verify.checks.trust_domain import Flaw
from confcom.verify.verdict import VerdictKind
from testkit.verify import tampering
from testkit.verify.intels_library import ACCEPTED, intels_status
from testkit.verify.td_lab import BODIES, POLICY
from testkit.verify.verify_lab import failed_codes

CASES = [(None, case) for case in tampering.cases()]
CASES += [(body, case) for body in BODIES for case in tampering.cases(TeeType.TDX)]


@pytest.mark.parametrize(("body", "case"), CASES, ids=lambda one: getattr(one, "name", one or "SGX"))
def test_our_verdict_on_each_defect(lab, tampered, tampered_tds, body, case, *, monkeypatch):
    """The verdict is the same beside a dcap-qvl that always agrees."""
    found, policy = (tampered_tds[body, case.name], POLICY) if body else (tampered[case.name], lab.policy)
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
    "relaunch": lambda appraisal: replace(appraisal, status=TcbStatus.TD_RELAUNCH_ADVISED),
    "advisories": lambda appraisal: replace(appraisal, advisory_ids=()),
    "rejection": lambda _: "Failed to verify certificate chain: CertRevoked",
    "debug": lambda _: Flaw.DEBUG.value,
    "an unknown rejection": lambda _: "something new",
}


@pytest.mark.parametrize("tee", TeeType)
@pytest.mark.parametrize("change", DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_difference_between_the_verifiers_is_not_authentic(lab, tdx_lab, change, tee, monkeypatch):
    chosen = lab if tee is TeeType.SGX else tdx_lab
    found, policy = chosen.evidence(), chosen.policy
    appraisal = change(found.appraisal())
    monkeypatch.setattr(Appraiser, "appraise", lambda *_: appraisal)
    verdict = found.verdict(policy)
    assert (verdict.kind, failed_codes(verdict)) == (VerdictKind.NOT_AUTHENTIC, ["verifiers-differ"])


@pytest.mark.parametrize("case", tampering.cases(), ids=lambda case: case.name)
def test_nothing_is_accepted_that_intels_library_refuses(lab, tampered, case):
    try:
        accepted = intels_status(tampered[case.name]) == ACCEPTED
    except MalformedError:  # Intel's binding needs separate certificates
        accepted = False
    assert accepted or not tampered[case.name].verdict(lab.policy).ok
