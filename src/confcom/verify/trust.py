"""The trust anchor: the root that a relying party trusts, and the kind of platform that the root stands for.

Only the root's *key* decides that a platform is genuine; Intel's key is pinned here. Everything else about a root can
only lower trust.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confcom.errors import MalformedError, printable
from confcom.sgx.certification import UNREADABLE_X509, split_pem_chain

INTEL_ROOT_KEY_ID = bytes.fromhex(
    "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"
)
"""SHA-384 of the public point of Intel's SGX Root CA, which is the root in genuine quotes; dcap-qvl pins it too."""

PEM_BEGIN = b"-----BEGIN "

MAX_ROOT_SIZE = 64 * 1024
"""Bytes of a root certificate file. A real one is under 1 KiB; a chain fits too, so that the error can say so."""


class Platform(Enum):
    """The kind of platform that made the quote, as far as the trusted root shows."""

    GENUINE = "genuine"
    """The chain ends in Intel's pinned root key."""
    SIMULATED = "simulated"
    """The chain ends in the root that was given, and that root is marked as a simulated platform's."""
    UNKNOWN = "unknown"
    """The root is neither of these, or no valid chain leads to a root."""


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """A trust anchor that the relying party chose: one certificate."""

    certificate: x509.Certificate
    der: bytes
    key_id: bytes

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read a root certificate, PEM or DER.

        Raises:
            MalformedError: the data is not exactly one certificate with a key on the curve P-256, or the certificate
                is not self-issued: with such an anchor dcap-qvl ends the whole process.
        """
        if len(data) > MAX_ROOT_SIZE:
            raise MalformedError(
                f"the root certificate has {len(data)} bytes, more than {MAX_ROOT_SIZE}",
                error_code="too-long",
                remedy="pass the root certificate alone",
            )
        certificates = split_pem_chain(data) if PEM_BEGIN in data else (data,)
        if len(certificates) != 1:
            raise MalformedError(
                f"the root file holds {len(certificates)} certificates instead of one",
                error_code="several-certificates",
                remedy="pass the root alone, neither a chain nor a bundle: every certificate in it would be trusted",
            )
        certificate = load_certificate(certificates[0], "the root certificate")
        if not is_self_issued(certificate):
            raise MalformedError(
                f"the certificate of {name_text(certificate.subject)} is not a root",
                error_code="not-a-root",
                why=f"it names {name_text(certificate.issuer)} as its issuer, and a root names itself",
                remedy="pass the certificate that the chain ends in",
            )
        return cls(certificate, certificate.public_bytes(Encoding.DER), key_id(certificate))


def load_certificate(data: bytes, what: str) -> x509.Certificate:
    """Read one certificate, PEM or DER, with a P-256 key; SGX's PKI has no other keys.

    Args:
        data: the certificate.
        what: its name in error messages.

    Raises:
        MalformedError: the data is not such a certificate.
    """
    try:
        load = x509.load_pem_x509_certificate if data.startswith(PEM_BEGIN) else x509.load_der_x509_certificate
        certificate = load(data)
        key = certificate.public_key()
        _decode_all_fields(certificate)
    except UNREADABLE_X509 as error:
        raise MalformedError(
            f"{what} is not a readable X.509 certificate",
            error_code="not-a-certificate",
            why=str(error),
            remedy="pass a certificate in PEM or DER form",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError(
            f"{what} has a key that is not on the curve P-256",
            error_code="wrong-curve",
            why="all keys of SGX's certificate chains are",
            remedy="check that it is an SGX certificate",
        )
    return certificate


def _decode_all_fields(certificate: x509.Certificate) -> tuple[object, ...]:
    """Decode the fields that cryptography decodes at first use, so that malformed ones raise here and not later."""
    return (
        certificate.subject.public_bytes(),
        certificate.issuer.public_bytes(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.serial_number,
        certificate.extensions,
    )


def name_text(name: x509.Name) -> str:
    """Return a distinguished name for people (RFC 4514), escaped, since the RFC permits control characters."""
    return printable(name.rfc4514_string())


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Return whether subject and issuer are the same bytes: to verifiers, equal text in two encodings is two names."""
    return certificate.subject.public_bytes() == certificate.issuer.public_bytes()


def key_id(certificate: x509.Certificate) -> bytes:
    """Return the SHA-384 of the public key as an uncompressed point, 48 bytes; dcap-qvl identifies roots by it."""
    point = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha384(point).digest()


def platform_of(root_key_id: bytes, *, root_is_marked: bool) -> Platform:
    """Return the kind of platform that a root stands for: genuine by its key, else simulated by its marks."""
    if root_key_id == INTEL_ROOT_KEY_ID:
        return Platform.GENUINE
    return Platform.SIMULATED if root_is_marked else Platform.UNKNOWN
