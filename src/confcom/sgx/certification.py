"""Certification data: the part of a quote that identifies the PCK that certified the quoting enclave.

Layout: u16 type, u32 size, data (sgx_ql_certification_data_t in Intel's sgx_quote_3.h). Types 6 and 7 are
from Intel's "ECDSA Quote Library API".
"""

import binascii
import re
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from confcom.errors import MalformedError
from confcom.sgx.binary import ByteReader, Layout, require_range

MAX_CHAIN_CERTIFICATES = 8
"""A PCK chain has three certificates and an issuer chain two. A longer chain is not an SGX chain, and parsing
each certificate takes time."""

UNREADABLE_X509 = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Errors of the cryptography library for malformed or unsupported X.509 data, on loading and on access to fields
that are decoded lazily. The other types are no subclasses of ValueError."""

_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----[ \t]*\r?\n([A-Za-z0-9+/][A-Za-z0-9+/= \t\r\n]*)-----END CERTIFICATE-----[ \t\r\n\0]*"
)
_SEPARATORS = b" \t\r\n\0"


class CertificationDataType(IntEnum):
    """Values of a quote's cert_key_type."""

    PPID_CLEARTEXT = 1
    PPID_RSA2048_ENCRYPTED = 2
    PPID_RSA3072_ENCRYPTED = 3
    """The type in quotes of platforms that have no provider library for PCK certificates."""
    PCK_CERTIFICATE = 4
    PCK_CERT_CHAIN = 5
    """The usual type: leaf, intermediate and root certificate as PEM."""
    QE_REPORT_CERTIFICATION_DATA = 6
    """QE report certification data occurs only in quotes of version 4 and later."""
    PLATFORM_MANIFEST = 7


PPID_SIZES = {
    CertificationDataType.PPID_CLEARTEXT: 16,
    CertificationDataType.PPID_RSA2048_ENCRYPTED: 256,
    CertificationDataType.PPID_RSA3072_ENCRYPTED: 384,
}
"""Bytes of the PPID in each type of data; the PPID is plain or one RSA-OAEP block (sgx_quote_3.h)."""


@dataclass(frozen=True, slots=True)
class PpidData:
    """Data of types 1 to 3: the platform's PPID and TCB, which together identify a PCK certificate."""

    ppid: bytes
    cpu_svn: bytes
    pce_svn: int
    pce_id: int


_PPID_LAYOUTS: dict[int, Layout] = {
    kind: Layout(f"certification data of type {kind.value}", fields(PpidData), f"{size}s 16s H H")
    for kind, size in PPID_SIZES.items()
}


@dataclass(frozen=True, slots=True)
class CertificationData:
    """A certification data type with its data, unparsed so that unknown types are encoded unchanged."""

    type: int
    data: bytes

    @classmethod
    def read(cls, reader: ByteReader) -> Self:
        kind = reader.integer(2, "the certification data type")
        size = reader.integer(4, "the certification data size")
        return cls(kind, reader.take(size, "the certification data"))

    def encode(self) -> bytes:
        require_range(self.type, 0xFFFF, "a certification data type")
        return self.type.to_bytes(2, "little") + len(self.data).to_bytes(4, "little") + self.data

    @property
    def kind(self) -> CertificationDataType | None:
        """The type as an enum member; None for a type that Intel's documents do not name."""
        try:
            return CertificationDataType(self.type)
        except ValueError:
            return None

    def ppid_data(self) -> PpidData | None:
        """Parse the data if the type is 1, 2 or 3; return None for other types."""
        layout = _PPID_LAYOUTS.get(self.type)
        return PpidData(*layout.unpack(self.data)) if layout else None

    def pem_chain(self) -> tuple[bytes, ...]:
        """Return the PCK certificate chain in data of type 5; its order is that of the data."""
        if self.type != CertificationDataType.PCK_CERT_CHAIN:
            name = f" ({self.kind.name})" if self.kind else ""
            raise MalformedError(
                f"certification data of type {self.type}{name} carries no PCK certificate chain",
                error_code="no-pck-chain",
                why="the quote was made without a library that provides the PCK certificate",
                remedy="fetch the chain for its PPID, or configure the platform to put the chain (type 5) in",
            )
        return split_pem_chain(self.data)


def split_pem_chain(data: bytes) -> tuple[bytes, ...]:
    """Split concatenated PEM certificates; only white space and NUL bytes may be before, between and after them.

    Some chains have the order leaf, root, intermediate, so the order is not checked. The returned certificates have
    `data`'s order and a final newline.
    """
    offset = len(data) - len(data.lstrip(_SEPARATORS))
    certificates: list[bytes] = []
    while offset < len(data):
        match = _PEM_CERTIFICATE.match(data, offset)
        if match is None:
            raise _not_pem(f"there is something else at byte {offset}")
        if len(certificates) == MAX_CHAIN_CERTIFICATES:
            raise _not_pem(f"it has more than {MAX_CHAIN_CERTIFICATES} certificates")
        try:
            binascii.a2b_base64(b"".join(match[1].split()), strict_mode=True)
        except binascii.Error as error:
            raise _not_pem(f"certificate {len(certificates) + 1} is not base64: {error}") from error
        certificates.append(match[0].rstrip(_SEPARATORS) + b"\n")
        offset = match.end()
    if not certificates:
        raise _not_pem("it is empty")
    return tuple(certificates)


def pem_to_der(certificate: bytes) -> bytes:
    """Return the DER of a certificate that `split_pem_chain` returned."""
    return binascii.a2b_base64(b"".join(certificate.split(b"-----")[2].split()))


def _not_pem(why: str) -> MalformedError:
    return MalformedError(
        "a certificate chain is not a sequence of PEM certificates",
        error_code="not-pem",
        why=why,
        remedy="pass certificates as PEM, one after the other, without other text",
    )
