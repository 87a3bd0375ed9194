"""The public key and the extensions of an X.509 certificate, by a strict walk through its DER.

cryptography refuses certificates of RA-TLS whose signature algorithm carries a NULL, as Gramine writes it. These two
parts need no more than X.690's rules for tags and lengths; everything else in a certificate stays unread.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from confcom.errors import MalformedError
from confcom.sgx.certification import pem_to_der, split_pem_chain

MAX_CERTIFICATE_SIZE: Final = 64 * 1024
"""Bytes, as PEM or DER. One with two quotes has 14 KiB; OpenSSL takes 100 KiB for a whole chain."""
MAX_EXTENSIONS: Final = 64
"""A certificate of RA-TLS has five, one of a public authority ten."""

_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE = 0x01, 0x02, 0x03, 0x04, 0x06, 0x30
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_OPTIONAL: Final = (0x81, 0x82, _EXTENSIONS)
"""After the key, each at most once and in this order: issuerUniqueID, subjectUniqueID, extensions (RFC 5280, 4.1)."""
_TRUE: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class CertificateParts:
    """What binds a key to evidence."""

    public_key: bytes
    """The SubjectPublicKeyInfo, DER as it stands in the certificate."""
    extensions: Mapping[bytes, bytes]
    """Values of all extensions, by the content octets of their OIDs: malformed OIDs have no dotted form."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one certificate, PEM or DER, of at most 64 KiB.

        No signature is checked, and no date.

        Raises:
            MalformedError: it is longer, or is not DER, or has two extensions with one OID.
        """
        if len(data) > MAX_CERTIFICATE_SIZE:
            raise _unreadable(f"it has {len(data)} bytes, more than the limit of {MAX_CERTIFICATE_SIZE}")
        whole = _only(_der(data), _SEQUENCE, "the certificate")
        members = list(_elements(whole, "the certificate"))
        if [tag for tag, _, _ in members] != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
            raise _unreadable("it is not a sequence of content, algorithm and signature")
        members = list(_elements(members[0][1], "the certificate's content"))
        if members and members[0][0] == _VERSION:
            members.pop(0)
        # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
        if [tag for tag, _, _ in members[:6]] != [_INTEGER, *[_SEQUENCE] * 5]:
            raise _unreadable("its content has not the members of an X.509 certificate")
        tags = [tag for tag, _, _ in members[6:]]
        if tags != [tag for tag in _OPTIONAL if tag in tags]:
            raise _unreadable("there is something else after its key")
        return cls(members[5][2], _extensions(members[-1][1]) if _EXTENSIONS in tags else {})


def _der(data: bytes) -> bytes:
    if not data.lstrip().startswith(b"-----"):
        return data
    certificates = split_pem_chain(data)
    if len(certificates) != 1:
        raise _unreadable(f"there are {len(certificates)} certificates, and the peer's alone is needed")
    return pem_to_der(certificates[0])


def _extensions(data: bytes) -> Mapping[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for tag, content, _ in _elements(_only(data, _SEQUENCE, "the extensions"), "the extensions"):
        members = [(kind, value) for kind, value, _ in _elements(content, "an extension")]
        if len(members) == 3 and members[1] == (_BOOLEAN, _TRUE):
            del members[1]
        if tag != _SEQUENCE or [kind for kind, _ in members] != [_OID, _OCTET_STRING]:
            raise _unreadable("an extension is not a sequence of OID, criticality and value")
        (_, oid), (_, value) = members
        if oid in found:
            raise _unreadable(f"it has two extensions with the OID {oid.hex()}")
        if len(found) == MAX_EXTENSIONS:
            raise _unreadable(f"it has more than {MAX_EXTENSIONS} extensions")
        found[oid] = value
    return found


def _only(data: bytes, expected: int, what: str) -> bytes:
    """Return the content of the one element that the data is."""
    elements = list(_elements(data, what))
    if [tag for tag, _, _ in elements] != [expected]:
        raise _unreadable(f"{what} is not exactly one sequence")
    return elements[0][1]


def _elements(data: bytes, what: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield tag, content, and the encoding of each element; lengths are definite and as short as possible."""
    offset = 0
    while offset < len(data):
        header = data[offset : offset + 2]
        if len(header) < 2 or header[0] & 0x1F == 0x1F:
            raise _unreadable(f"{what} ends inside an element, or has a tag of several bytes")
        begin, size = offset + 2, header[1]
        if size >= 0x80:
            count = size & 0x7F
            octets = data[begin : begin + count]
            size = int.from_bytes(octets)
            if not 1 <= count == len(octets) <= 4 or size < 0x80 or octets[0] == 0:
                raise _unreadable(f"{what} has a length that is not DER")
            begin += count
        end = begin + size
        if end > len(data):
            raise _unreadable(f"{what} ends inside an element")
        yield header[0], data[begin:end], data[offset:end]
        offset = end


def _unreadable(why: str) -> MalformedError:
    return MalformedError(
        "this is not one certificate in DER, or in PEM",
        error_code="not-a-certificate",
        why=why,
        remedy="pass the certificate that the peer presents, alone and unchanged",
    )
