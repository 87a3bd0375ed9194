"""Checks of revocation: both CRLs are signed, and revoke neither a signer of collateral nor a quote's certificates.

Formats: RFC 5280; Intel's "PCK Certificate and CRL Profile". dcap-qvl has checks of its own, and makes
them only with a quote.
"""

from collections.abc import Iterable

from cryptography import x509

from confcom.sgx.certificates import name_text
from confcom.sgx.certification import UNREADABLE_X509
from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.pck.chain import PckChain, is_certificate_authority, is_issued_by
from confcom.verify.verdict import Check, VerdictKind, judged

ISSUER_CHAIN_LENGTH = 2
"""Certificates of each issuer chain: the TCB signer's or the PCK CA's, and the root (PCS API v4)."""


def crl_check(collateral: CollateralDocuments, trusted_root: x509.Certificate) -> Check:
    required = "revocation lists that the trusted root and its PCK CA signed"
    issuers, broken = collateral.pck_crl_issuers, ""
    if not is_crl_of(collateral.root_ca_crl, trusted_root):
        broken = "the trusted root did not sign the root's revocation list"
    elif len(issuers) != ISSUER_CHAIN_LENGTH or not all(is_issued_by(issuer, trusted_root) for issuer in issuers):
        broken = "the PCK revocation list's issuer chain is not a certificate of the trusted root, and this root"
    elif not is_certificate_authority(issuers[0]) or not is_crl_of(collateral.pck_crl, issuers[0]):
        broken = f"{name_text(issuers[0].subject)} did not sign the PCK revocation list"
    why = "an altered list could hide a revoked certificate; fetch the collateral again"
    return judged(required, broken or "signed", why, VerdictKind.UNUSABLE, code="collateral-crl", holds=not broken)


def signers_revocation_check(collateral: CollateralDocuments) -> Check:
    chains = (collateral.tcb_info_issuers, collateral.qe_identity_issuers, collateral.pck_crl_issuers)
    revoked = _revoked(collateral.root_ca_crl, (certificate for chain in chains for certificate in chain))
    why = "the root revoked a signer of this collateral; fetch collateral of its successor"
    required = "no signer of the collateral is revoked"
    return judged(required, revoked or "none", why, VerdictKind.UNUSABLE, code="collateral-revoked", holds=not revoked)


def pck_revocation_check(chain: PckChain, collateral: CollateralDocuments) -> Check:
    """Check that neither list revokes a certificate of a quote's chain; the PCK CRL must be of the chain's CA."""
    revoked = _revoked(collateral.pck_crl, (chain.leaf,)) or _revoked(collateral.root_ca_crl, chain.certificates[1:])
    why = "the issuer of a certificate in the quote revoked this certificate, so its keys cannot be trusted"
    required = "no certificate of the quote is revoked"
    return judged(required, revoked or "none", why, VerdictKind.NOT_AUTHENTIC, code="pck-revoked", holds=not revoked)


def is_crl_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        signed = crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type] # `load_certificate`: P-256 only
        return signed and crl.issuer.public_bytes() == issuer.subject.public_bytes()
    except UNREADABLE_X509:
        return False


def _revoked(crl: x509.CertificateRevocationList, certificates: Iterable[x509.Certificate]) -> str:
    """Return the name of the first certificate that the list revokes, or an empty text."""
    for certificate in certificates:
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            return name_text(certificate.subject)
    return ""
