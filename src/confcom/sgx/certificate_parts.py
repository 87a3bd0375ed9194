"""Reads the public key and the extensions of an X.509 certificate, and no other fields.

The package cryptography refuses RA-TLS certificates with a NULL in the signature algorithm, as Gramine writes them. We
read key and extensions with cryptography's declarative ASN.1, documented as unstable (docs/adr/0003).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

from cryptography import x509
from cryptography.hazmat import asn1

from confcom.errors import MalformedError
from confcom.sgx.binary import SEQUENCE, der_element
from confcom.sgx.certification import pem_to_der, split_pem_chain

MAX_CERTIFICATE_SIZE: Final = 64 * 1024
"""Largest PEM or DER certificate in bytes. Two quotes in it need 14 KiB; OpenSSL allows 100 KiB a chain."""


@asn1.sequence
class _Extension:
    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(value=False)]
    value: bytes


@asn1.sequence
class _Content:
    version: Annotated[int | None, asn1.Explicit(0)]
    serial_number: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    public_key: asn1.TLV
    issuer_id: Annotated[asn1.BitString | None, asn1.Implicit(1)]
    subject_id: Annotated[asn1.BitString | None, asn1.Implicit(2)]
    extensions: Annotated[list[_Extension] | None, asn1.Explicit(3)]


@asn1.sequence
class _Certificate:
    content: _Content
    algorithm: asn1.TLV
    signature: asn1.BitString


@dataclass(frozen=True, slots=True)
class CertificateParts:
    """The parts of a certificate that bind its key to evidence."""

    public_key: bytes
    """The SubjectPublicKeyInfo as DER, unchanged from the certificate."""
    extensions: Mapping[x509.ObjectIdentifier, bytes]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one certificate, PEM or DER; its signature and dates are not checked."""
        if len(data) > MAX_CERTIFICATE_SIZE:
            raise _unreadable(f"it has {len(data)} bytes, more than the limit of {MAX_CERTIFICATE_SIZE}")
        try:
            content = asn1.decode_der(_Certificate, _der(data)).content
            if content.public_key.tag_bytes != bytes([SEQUENCE]):
                raise ValueError("its public key is no sequence")
        except (ValueError, TypeError) as error:
            raise _unreadable(str(error)) from error
        listed = content.extensions or []
        extensions = {extension.oid: extension.value for extension in listed}
        if len(extensions) != len(listed):
            raise _unreadable("it has two extensions with one OID")
        return cls(der_element(SEQUENCE, bytes(content.public_key.data)), extensions)


def _der(data: bytes) -> bytes:
    if not data.lstrip().startswith(b"-----"):
        return data
    certificates = split_pem_chain(data)
    if len(certificates) != 1:
        raise _unreadable(f"there are {len(certificates)} certificates, and the peer's alone is needed")
    return pem_to_der(certificates[0])


def _unreadable(why: str) -> MalformedError:
    return MalformedError(
        "this is not one certificate in DER, or in PEM",
        error_code="not-a-certificate",
        why=why,
        remedy="pass the certificate that the peer presents, alone and unchanged",
    )
