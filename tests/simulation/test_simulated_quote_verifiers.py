"""Real verifiers, told to trust the simulated root, accept its quotes; told to trust Intel's, they do not."""

import json
import platform as machine
import sys
from datetime import timedelta

import dcap_qvl
import pytest
from cryptography import x509

from confcom.sgx import marks
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.key_id import INTEL_QE_MRSIGNER
from confcom.sgx.pck_extension import PckExtension
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.validity import RENEWAL_INTERVAL

QVL_RUNS_HERE = sys.version_info[:2] == (3, 11) and sys.platform == "linux" and machine.machine() == "x86_64"

INTEL_ROOT_KEY_ID_START = "46e403bd34f05a3f"
"""First bytes of SHA-384 over the point of Intel's root key."""


def test_dcap_qvl_accepts_under_the_simulated_root(any_platform, now, make_quote, dcap_qvl_collateral):
    seconds = int(now.timestamp())
    collateral = dcap_qvl_collateral(any_platform.collateral(now))
    verifier = dcap_qvl.QuoteVerifier(any_platform.pki.root.der)
    claims = verifier.verify_with_policy(
        make_quote(any_platform), collateral, seconds, dcap_qvl.QuotePolicy.strict(seconds)
    )
    claims = json.loads(claims.to_json())
    assert claims["tcb"] == {
        "status": "UpToDate",
        "advisory_ids": ["SIMULATED-NOT-GENUINE-INTEL"],
        "eval_data_number": 1,
    }
    assert not bytes(claims["platform"]["root_key_id"]).hex().startswith(INTEL_ROOT_KEY_ID_START)


def test_a_relying_party_can_block_simulation_by_its_advisory(platform, now, make_quote, dcap_qvl_collateral):
    seconds = int(now.timestamp())
    policy = dcap_qvl.QuotePolicy.strict(seconds).reject_advisory(marks.ADVISORY_ID)
    verifier = dcap_qvl.QuoteVerifier(platform.pki.root.der)
    with pytest.raises(ValueError, match="SIMULATED-NOT-GENUINE-INTEL"):
        verifier.verify_with_policy(
            make_quote(platform), dcap_qvl_collateral(platform.collateral(now)), seconds, policy
        )


def test_dcap_qvl_rejects_under_intels_root(any_platform, now, make_quote, dcap_qvl_collateral):
    collateral = dcap_qvl_collateral(any_platform.collateral(now))
    with pytest.raises(ValueError, match="root CA CRL"):
        dcap_qvl.verify(make_quote(any_platform), collateral, int(now.timestamp()))


def test_dcap_qvl_rejects_under_another_simulated_root(platform, now, make_quote, dcap_qvl_collateral):
    other = type(platform).create(bytes(32), now)
    for root, collateral in (
        (other.pki.root.der, platform.collateral(now)),
        (platform.pki.root.der, other.collateral(now)),
    ):
        with pytest.raises(ValueError, match="InvalidCrlSignatureForPublicKey"):
            dcap_qvl.verify_with_root_ca(
                make_quote(platform), dcap_qvl_collateral(collateral), root, int(now.timestamp())
            )


def test_dcap_qvl_rejects_debug_enclaves(platform, now, make_quote, dcap_qvl_collateral):
    quote = make_quote(platform, SimulatedEnclave.from_name("application", debug=True))
    with pytest.raises(ValueError, match=r"(?i)debug"):
        dcap_qvl.verify_with_root_ca(
            quote, dcap_qvl_collateral(platform.collateral(now)), platform.pki.root.der, int(now.timestamp())
        )


@pytest.mark.parametrize("age", [timedelta(hours=-23), timedelta(0), timedelta(days=13), RENEWAL_INTERVAL * 40])
def test_collateral_of_any_period_is_accepted_for_two_weeks(platform, now, make_quote, dcap_qvl_collateral, age):
    taken = now + age
    collateral = dcap_qvl_collateral(platform.collateral(taken))
    for at in (taken, taken + timedelta(days=14)):
        report = dcap_qvl.verify_with_root_ca(
            make_quote(platform), collateral, platform.pki.root.der, int(at.timestamp())
        )
        assert report.status == "UpToDate"


@pytest.mark.skipif(not QVL_RUNS_HERE, reason="Intel's QVL has wheels for CPython up to 3.11 on x86-64 Linux only")
def test_intels_own_library_accepts_under_the_simulated_root(any_platform, now, make_quote):
    import sgx_dcap_quote_verify as qvl

    pki, collateral = any_platform.pki, any_platform.collateral(now)

    def verify(root: bytes) -> qvl.VerificationResult:
        return qvl.verify(
            trusted_root_ca_certificate=root.decode(),
            pck_certificate=pki.pck.pem.decode(),
            pck_signing_chain=collateral.pck_crl_issuer_chain.decode(),
            root_ca_crl=collateral.root_ca_crl.hex(),
            intermediate_ca_crl=collateral.pck_crl.hex(),
            tcb_info=collateral.tcb_info.decode(),
            tcb_signing_chain=collateral.tcb_info_issuer_chain.decode(),
            quote=make_quote(any_platform),
            qe_identity=collateral.qe_identity.decode(),
            expiration_date=now.astimezone().replace(tzinfo=None),
        )

    result = verify(pki.root.pem)
    statuses = (
        result.pck_certificate_status,
        result.tcb_info_status,
        result.qe_identity_status,
        result.quote_status,
    )
    assert result.ok
    assert {status.name for status in statuses} == {"STATUS_OK"}
    other = type(any_platform).create(bytes(32), now)
    assert not verify(other.pki.root.pem).ok


def test_all_marks_are_there_together(platform, now, make_quote):
    quote = Quote.parse(make_quote(platform))
    chain = [x509.load_pem_x509_certificate(pem) for pem in split_pem_chain(quote.signature.certification.data)]
    collateral = platform.collateral(now)

    assert quote.header.user_data == b"SIMULATED-NOT-INTEL!"
    assert quote.signature.auth_data == b"SIMULATED-SGX-NOT-INTEL-HARDWARE"
    assert quote.body.cpu_svn in marks.SIMULATION_CPU_SVNS
    assert quote.signature.qe_report_body.mr_signer != INTEL_QE_MRSIGNER
    for certificate in [*chain, platform.pki.tcb_signer.certificate]:
        comment = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.16.840.1.113730.1.13"))
        assert not comment.critical
        assert comment.value.public_bytes()[2:].decode() == marks.NS_COMMENT
        assert marks.has_simulated_name(certificate.subject)
        assert marks.has_simulated_name(certificate.issuer)
    sgx = PckExtension.from_certificate(chain[0])
    assert sgx.fmspc == b"SIMSGX"
    assert sgx.ppid.isascii()
    assert sgx.platform_instance_id.isascii()
    for document in (collateral.read_tcb_info(), collateral.read_qe_identity()):
        assert document.simulation["genuine"] is False
        assert document.levels[0].advisory_ids == ("SIMULATED-NOT-GENUINE-INTEL",)
