"""A quote's PCK certificate chain, and our own check of the signatures from the enclave's report to the root.

dcap-qvl checks the same signatures with other code, and both checks must pass. Our check needs no collateral,
and also checks the certificates' names.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from confcom.errors import MalformedError
from confcom.sgx.certificates import common_name, is_self_issued, load_certificate, name_text
from confcom.sgx.certification import UNREADABLE_X509
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import Quote

CHAIN_NAMES = ("SGX PCK Certificate", "CA", "SGX Root CA")
"""Text that the common names of leaf, intermediate and root contain (Intel's "PCK Certificate and CRL
Profile"; QVL requires the same). The intermediate is named PCK Processor CA or PCK Platform CA."""

PCK_CAS = ("PLATFORM", "PROCESSOR")
"""Intel's authorities of PCK certificates."""


@dataclass(frozen=True, slots=True)
class PckChain:
    """A quote's certificates by role; their order differs between quotes, but the leaf is always first."""

    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    root: x509.Certificate | None

    @classmethod
    def from_quote(cls, quote: Quote) -> Self:
        return cls.from_pem(quote.signature.certification.pem_chain())

    @classmethod
    def from_pem(cls, certificates: tuple[bytes, ...]) -> Self:
        """Build a chain from PEM certificates; the leaf must be the first, the others may have any order."""
        leaf, *others = (
            load_certificate(pem, f"certificate {number} of the quote's chain")
            for number, pem in enumerate(certificates, start=1)
        )
        roots = [certificate for certificate in others if is_self_issued(certificate)]
        if len(roots) > 1:
            raise MalformedError(
                f"the quote's chain has {len(roots)} root certificates instead of one",
                error_code="several-roots",
                remedy="check that the quote was not altered",
            )
        intermediates = tuple(certificate for certificate in others if certificate not in roots)
        return cls(leaf, intermediates, roots[0] if roots else None)

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        return (self.leaf, *self.intermediates, *((self.root,) if self.root else ()))

    def extension(self) -> PckExtension | MalformedError:
        """Return the leaf's SGX extension, or the error that reading it raised."""
        try:
            return PckExtension.from_certificate(self.leaf)
        except MalformedError as error:
            return error

    def broken_link(self, trusted_root: x509.Certificate) -> str | None:
        """Return the first defect of the chain from leaf to `trusted_root`, or None if there is no defect.

        Names, signatures, CA flags and critical extensions are checked; dates (see `outdated`) and revocation are not.
        """
        path = self.certificates
        if len(path) != len(CHAIN_NAMES):
            return f"it has {len(path)} certificates instead of leaf, intermediate and root"
        for certificate, issuer, expected in zip(path, (*path[1:], trusted_root), CHAIN_NAMES, strict=True):
            name = name_text(certificate.subject)
            if expected not in common_name(certificate.subject):
                return f"{name} was found instead of {expected}"
            if not is_issued_by(certificate, issuer):
                return f"{name} was not issued by {name_text(issuer.subject)}"
            if is_certificate_authority(certificate) is (certificate is self.leaf):
                return f"{name} {'is' if certificate is self.leaf else 'is not'} a certificate authority"
            if unknown := _unknown_critical_extension(certificate):
                return f"{name} has the unknown critical extension {unknown}"
        return None

    @property
    def period(self) -> tuple[datetime, datetime]:
        """Start and end of all certificates' common validity; there is none if the end precedes the start."""
        return (
            max(certificate.not_valid_before_utc for certificate in self.certificates),
            min(certificate.not_valid_after_utc for certificate in self.certificates),
        )

    def outdated(self, now: datetime) -> str | None:
        """Return a text about the first certificate that is not valid at `now`, or None if all are valid."""
        for certificate in self.certificates:
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                return f"{name_text(certificate.subject)} is not valid at {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return None


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer` issued the certificate, according to their names and the signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE_X509):
        return False
    return True


def pck_ca(name: x509.Name) -> str:
    """Return which of PCK_CAS has this name ("PCK Certificate and CRL Profile")."""
    return "PLATFORM" if "Platform" in common_name(name) else "PROCESSOR"


def is_certificate_authority(certificate: x509.Certificate) -> bool:
    values = [extension.value for extension in certificate.extensions]
    return any(isinstance(value, x509.BasicConstraints) and value.ca for value in values)


def _unknown_critical_extension(certificate: x509.Certificate) -> str:
    """Return the OID of a critical extension that is not understood, which forbids the certificate's use (RFC 5280)."""
    critical = (extension for extension in certificate.extensions if extension.critical)
    unknown = (extension for extension in critical if isinstance(extension.value, x509.UnrecognizedExtension))
    return next((extension.oid.dotted_string for extension in unknown), "")


def qe_report_is_certified(quote: Quote, leaf: x509.Certificate) -> bool:
    return is_signed_by(leaf.public_key(), quote.signature.qe_report_signature, quote.signature.qe_report_body.encode())


def attestation_key_is_bound(quote: Quote) -> bool:
    """Return whether the quoting enclave's report data is the hash of attestation key and authentication data."""
    return quote.signature.qe_report_body.report_data == quote.signature.pub_key_id + bytes(32)


def attestation_key(quote: Quote) -> ec.EllipticCurvePublicKey | None:
    """Return the key that signed header and report body; None if the key's bytes are no point on P-256."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + quote.signature.attestation_key)
    except ValueError:
        return None


def is_signed_by(key: object, signature: bytes, data: bytes) -> bool:
    """Return whether an ECDSA key made a signature (r and s, 32 bytes each) over the SHA-256 of `data`."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
