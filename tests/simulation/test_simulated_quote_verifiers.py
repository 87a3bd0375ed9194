from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.certificates import INTEL_ROOT_KEY_ID
from confcom.sgx.collateral.tcb_documents import TcbStatus
from confcom.sgx.quote import Quote
from confcom.simulation.pki import RENEWAL_INTERVAL
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Appraiser, Rejection
from confcom.verify.trust import intel_root


def appraise(quote, root_der, collateral, now):
    return Appraiser(root_der, collateral, collateral.read()).appraise(quote, now)


def test_dcap_qvl_accepts_under_the_simulated_root_alone(any_platform, now, make_quote):
    quote, collateral = make_quote(any_platform), any_platform.collateral(now)
    appraisal = appraise(quote, any_platform.pki.root.der, collateral, now)
    assert isinstance(appraisal, Appraisal)
    assert appraisal.tcb_status is TcbStatus.UP_TO_DATE
    assert appraisal.advisory_ids == ("SIMULATED-NOT-GENUINE-INTEL",)
    assert appraisal.root_key_id != INTEL_ROOT_KEY_ID
    assert isinstance(appraise(quote, intel_root().der, collateral, now), Rejection)


@pytest.mark.parametrize("age", [timedelta(hours=-23), timedelta(0), timedelta(days=13), RENEWAL_INTERVAL * 40])
def test_collateral_of_any_period_is_accepted_for_two_weeks(platform, now, make_quote, age):
    taken = now + age
    for at in (taken, taken + timedelta(days=14)):
        appraisal = appraise(make_quote(platform), platform.pki.root.der, platform.collateral(taken), at)
        assert isinstance(appraisal, Appraisal)
        assert appraisal.tcb_status is TcbStatus.UP_TO_DATE


def crl_pem(der):
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


def test_intels_own_library_accepts_under_the_simulated_root(any_platform, now, make_quote):
    why = "Intel's QVL (sgx-dcap-quote-verify-python) exists for CPython 3.11 on x86-64 Linux only"
    qvl = pytest.importorskip("sgx_dcap_quote_verify", reason=why)
    quote, collateral = make_quote(any_platform), any_platform.collateral(now)
    leaf, *signers = Quote.parse(quote).signature.certification.pem_chain()
    result = qvl.verify(
        trusted_root_ca_certificate=any_platform.pki.root.pem.decode(),
        pck_certificate=leaf.decode(),
        pck_signing_chain=b"".join(signers).decode(),
        root_ca_crl=crl_pem(collateral.root_ca_crl),
        intermediate_ca_crl=crl_pem(collateral.pck_crl),
        tcb_info=collateral.tcb_info.decode(),
        tcb_signing_chain=collateral.tcb_info_issuer_chain.decode(),
        quote=quote,
        qe_identity=collateral.qe_identity.decode(),
        # The binding takes a naive time and reads it as the machine's local time.
        expiration_date=now.astimezone().replace(tzinfo=None),
    )
    statuses = (result.pck_certificate_status, result.tcb_info_status, result.qe_identity_status, result.quote_status)
    assert set(statuses) == {qvl.VerificationStatus.STATUS_OK}
