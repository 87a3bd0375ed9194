"""The trust anchor: the root that a relying party trusts, and the kind of platform that the root stands for.

Only the root's *key* decides that a platform is genuine (`confcom.sgx.certificates` pins Intel's). Everything else
about a root can only lower trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import MalformedError
from confcom.sgx.certificates import INTEL_ROOT_KEY_ID, PEM_BEGIN, is_self_issued, key_id, load_certificate, name_text
from confcom.sgx.certification import split_pem_chain

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
        certificates = split_pem_chain(data) if PEM_BEGIN in data else (data,)
        if len(certificates) != 1:
            raise MalformedError(
                f"the root file holds {len(certificates)} certificates instead of one",
                error_code="not-a-root",
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


def platform_of(root_key_id: bytes, *, root_is_marked: bool) -> Platform:
    """Return the kind of platform that a root stands for: genuine by its key, else simulated by its marks."""
    if root_key_id == INTEL_ROOT_KEY_ID:
        return Platform.GENUINE
    return Platform.SIMULATED if root_is_marked else Platform.UNKNOWN
