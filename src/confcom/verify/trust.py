"""The trust anchor: the root that a relying party trusts, and the kind of platform that the root stands for.

Only the root's *key* decides that a platform is genuine (`confcom.sgx.certificates` pins Intel's key). All
other properties of a root can only lower trust.
"""

from __future__ import annotations

import functools
import importlib.resources
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final, Self

from cryptography import x509

from confcom.errors import MalformedError, WrongTypeError
from confcom.sgx.certificates import INTEL_ROOT_KEY_ID, PEM_BEGIN, is_self_issued, key_id, load_certificate, name_text
from confcom.sgx.certification import pem_to_der, split_pem_chain
from confcom.sgx.simulation_marks import root_is_marked


class Platform(StrEnum):
    """The kind of platform that made the quote, as far as the trusted root shows."""

    GENUINE = "genuine"
    """The chain ends in Intel's pinned root key."""
    SIMULATED = "simulated"
    """The chain ends in the trusted root, which is marked as the root of a simulated platform."""
    UNKNOWN = "unknown"
    """The root is neither Intel's nor marked as simulated, or no valid chain leads to the root."""


class KnownRoot(Enum):
    """A root that comes with this package."""

    INTEL = "intel"
    """Intel's SGX Root CA, the root of all SGX hardware."""


INTEL: Final = KnownRoot.INTEL
"""Intel's SGX Root CA, which comes with this package."""


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """A root certificate that you trust, made by `read_root` or `TrustedRoot.load`."""

    certificate: x509.Certificate
    """The certificate as an object of the package cryptography."""
    der: bytes
    """The certificate in DER."""
    key_id: bytes
    """SHA-384 of the public key's uncompressed point, 48 bytes."""
    platform: Platform
    """The kind of platform whose quotes this root vouches for."""
    not_before: datetime
    """The first instant at which the certificate is valid."""
    not_after: datetime
    """The last instant at which the certificate is valid."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the root as DER: certificate objects of the package cryptography cannot be pickled."""
        return TrustedRoot.load, (self.der,)

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read a root certificate, PEM or DER.

        Raises:
            MalformedError: the data is not exactly one certificate with a key on the curve P-256, or the
                certificate is not self-issued, and such a trust anchor would make dcap-qvl abort the process.
        """
        if not isinstance(data, bytes):
            raise WrongTypeError("the root", "bytes, PEM or DER", data)
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
        root_key_id = key_id(certificate)
        platform = platform_of(root_key_id, root_is_marked=root_is_marked(certificate))
        der = pem_to_der(certificates[0]) if PEM_BEGIN in data else data
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return cls(certificate, der, root_key_id, platform, begin, end)


@functools.cache
def intel_root() -> TrustedRoot:
    """Return Intel's SGX Root CA, valid until 2049; `confcom.sgx.certificates` pins its key."""
    file = importlib.resources.files("confcom.verify") / "intel_sgx_root_ca.pem"
    return TrustedRoot.load(file.read_bytes())


def trusted_root(root: TrustedRoot | KnownRoot) -> TrustedRoot:
    if isinstance(root, KnownRoot):
        return intel_root()
    if not isinstance(root, TrustedRoot):
        raise WrongTypeError("the root", "INTEL or a TrustedRoot (read_root makes one)", root)
    return root


def platform_of(root_key_id: bytes, *, root_is_marked: bool) -> Platform:
    """Return the kind of platform that a root stands for: Intel's key means genuine, marks mean simulated."""
    if root_key_id == INTEL_ROOT_KEY_ID:
        return Platform.GENUINE
    return Platform.SIMULATED if root_is_marked else Platform.UNKNOWN
