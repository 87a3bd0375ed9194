"""Who signed collateral: the TCB signing certificate, under the trusted root. Pure.

dcap-qvl does not compare the names of certificates. With dcap-qvl alone, a PCK, which belongs to one platform, could
sign TCB info for all platforms.
"""

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx.certificates import load_certificate, name_text
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.collateral_bundle import CollateralBundle
from confcom.sgx.pck.chain import common_name, is_issued_by
from confcom.verify.verdict import Check, VerdictKind, failed, failed_by, passed

SIGNER_CHAIN_LENGTH = 2
"""The signing certificate and the root (PCS API v4, TCB-Info-Issuer-Chain)."""

TCB_SIGNER_NAME = "SGX TCB Signing"
"""Part of the common name of the certificate that signs TCB info and QE identity (Intel's QVL requires it too)."""


def signer_check(collateral: CollateralBundle, trusted_root: x509.Certificate) -> Check:
    """Check that both issuer chains consist of the root's TCB signing certificate and the trusted root itself."""
    required = f"TCB info and QE identity signed by {TCB_SIGNER_NAME}, which the trusted root issued"
    try:
        for chain in (collateral.tcb_info_issuer_chain, collateral.qe_identity_issuer_chain):
            certificates = [load_certificate(pem, "the signer's certificate") for pem in split_pem_chain(chain)]
            names = [name_text(certificate.subject) for certificate in certificates]
            if (
                len(certificates) != SIGNER_CHAIN_LENGTH
                or TCB_SIGNER_NAME not in common_name(certificates[0].subject)
                or not all(is_issued_by(certificate, trusted_root) for certificate in certificates)
            ):
                why = "the collateral's signer has a certificate of another kind or of another root"
                return failed(required, " < ".join(names), why, VerdictKind.NOT_AUTHENTIC, code="collateral-signer")
    except MalformedError as error:
        return failed_by(required, error, code="collateral-signer")
    return passed(required, names[0], code="collateral-signer")
