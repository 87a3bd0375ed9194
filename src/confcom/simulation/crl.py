"""Revocation lists of a simulated platform's CAs."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from confcom.simulation.pki import CertifiedKey


def create_crl(
    issuer: CertifiedKey, *, last_update: datetime, next_update: datetime, revoked: tuple[int, ...] = ()
) -> x509.CertificateRevocationList:
    """Create the CRL of one CA.

    Args:
        issuer: the CA.
        last_update: time of issue; also used as the CRL number, which therefore never decreases.
        next_update: end of its validity.
        revoked: serial numbers of revoked certificates.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(last_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(int(last_update.timestamp())), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private_key.public_key()), critical=False
        )
    )
    for serial_number in revoked:
        entry = x509.RevokedCertificateBuilder(serial_number, last_update)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.private_key, hashes.SHA256(), ecdsa_deterministic=True)
