"""The simulated platform's own PKI, shaped like Intel's: root, PCK CA, TCB signer, and one PCK certificate.

Verifiers ask for the names, key usages and extensions that Intel's certificates have; these have all of that. They also
have what Intel's never have: every name, and a comment in every certificate, says what it is. Names are checked where
certificates are issued (`confcom.simulation.issuing`) and where they are loaded, so that none claims to be Intel's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, unique
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import MalformedError
from confcom.sgx import marks
from confcom.sgx.x509_errors import UNREADABLE_X509
from confcom.simulation.keys import derive_private_key

BACKDATE = timedelta(hours=24)
"""How long before their making certificates and collateral begin: dcap-qvl refuses an issue date in the future, and
clocks of test machines, and time zones of code that forgets them, differ by up to a day."""


class IntelNameError(MalformedError):
    """A certificate for a simulated platform whose name does not say that it is simulated."""


@unique
class PckCaType(Enum):
    """Which of the two kinds of CA issues the PCK certificate; the value is what collateral services call it."""

    PROCESSOR = "processor"
    PLATFORM = "platform"


@unique
class Role(Enum):
    """The four certificates; the value labels their derived keys and serial numbers."""

    ROOT = "root"
    PCK_CA = "pck-ca"
    TCB_SIGNER = "tcb-signer"
    PCK = "pck"


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A certificate and the key it certifies."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    """Left out of comparisons: key objects have no equality, and the certificate names the key."""

    @property
    def pem(self) -> bytes:
        """The certificate as PEM, ending in a newline."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Pki:
    """All certificates and keys of one simulated platform."""

    root: CertifiedKey
    pck_ca: CertifiedKey
    tcb_signer: CertifiedKey
    pck: CertifiedKey

    @classmethod
    def load(cls, seed: bytes, certificates: Mapping[Role, x509.Certificate]) -> Self:
        """Put stored certificates together with their keys.

        Raises:
            MalformedError: a certificate is not for the seed's key, was not issued by the one above it, or does not
                say that it is simulated.
        """
        keys = {role: CertifiedKey(certificates[role], derive_private_key(seed, role.value)) for role in Role}
        pki = cls(keys[Role.ROOT], keys[Role.PCK_CA], keys[Role.TCB_SIGNER], keys[Role.PCK])
        issuers = {Role.ROOT: pki.root, Role.PCK_CA: pki.root, Role.TCB_SIGNER: pki.root, Role.PCK: pki.pck_ca}
        for role, issuer in issuers.items():
            try:
                _require_certified(role, keys[role], issuer)
            except UNREADABLE_X509 as error:
                # cryptography reads a certificate's parts only when they are asked for.
                raise MalformedError(f"the {role.value} certificate cannot be read", why=str(error)) from error
        return pki

    @property
    def certificates(self) -> Mapping[Role, x509.Certificate]:
        """What has to be stored besides the seed."""
        return {
            Role.ROOT: self.root.certificate,
            Role.PCK_CA: self.pck_ca.certificate,
            Role.TCB_SIGNER: self.tcb_signer.certificate,
            Role.PCK: self.pck.certificate,
        }

    @property
    def pck_chain(self) -> bytes:
        """Leaf, intermediate, root as PEM: what goes into quotes."""
        return self.pck.pem + self.pck_ca.pem + self.root.pem


def require_simulated_names(certificate: x509.Certificate) -> None:
    """Let a certificate pass only if subject and issuer both say that they are simulated.

    Raises:
        IntelNameError: one of them does not.
    """
    for name in (certificate.subject, certificate.issuer):
        if not marks.has_simulated_name(name):
            raise IntelNameError(
                f"a certificate with the name {name.rfc4514_string()} is refused",
                why="every name of a simulated platform must say that it is simulated and not Intel's",
                remedy="name it with confcom.simulation.issuing.simulated_name",
            )


def _require_certified(role: Role, key: CertifiedKey, issuer: CertifiedKey) -> None:
    require_simulated_names(key.certificate)
    if key.private_key.public_key() != key.certificate.public_key():
        raise MalformedError(f"the {role.value} certificate is not for the key that the seed gives")
    try:
        key.certificate.verify_directly_issued_by(issuer.certificate)
    except InvalidSignature as error:
        raise MalformedError(f"the {role.value} certificate was not signed by its issuer") from error
