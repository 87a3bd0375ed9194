"""The simulated platform's own PKI, structured like Intel's: root, PCK CA, TCB signer, and one PCK certificate.

Verifiers require the names, key usages and extensions of Intel's certificates, so these certificates have all of them.
Unlike Intel's, every name and a comment in every certificate say that the platform is simulated. Names are checked when
certificates are issued (`confcom.simulation.issuing`), so that none claims to be Intel's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, unique
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import MalformedError
from confcom.sgx import marks

TCB_COMPONENTS = (2,) * 16
"""SVN of each of the 16 components. Not the minimum, so that collateral can have a lower level that is out of date. PCK
certificate, quote and collateral must agree on these numbers."""

PCE_SVN = 2
PCE_ID = bytes(2)
"""Id of the only PCE (Intel's PCK certificates all say 0000)."""

BACKDATE = timedelta(hours=24)
"""Certificates and collateral are valid from this long before they are made: dcap-qvl rejects an issue date in the
future, and clocks of test machines, and times whose time zone was ignored, differ by up to a day."""


VALIDITY = timedelta(days=30)
"""Time from issue date to next update, as in Intel's collateral."""

RENEWAL_INTERVAL = VALIDITY / 2
"""Collateral is signed again after half its validity, so that every copy is valid for two weeks or longer."""


class IntelNameError(MalformedError):
    """A certificate of a simulated platform has a name that does not say that it is simulated."""

    error_code = "not-named-simulated"


@unique
class PckCaType(Enum):
    """Kind of CA that issues the PCK certificate; the value is the name that collateral services use."""

    PROCESSOR = "processor"
    PLATFORM = "platform"


@unique
class Role(Enum):
    """The four certificates; the value is the label from which keys and serial numbers are derived."""

    ROOT = "root"
    PCK_CA = "pck-ca"
    TCB_SIGNER = "tcb-signer"
    PCK = "pck"


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A certificate and its private key."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    """Excluded from comparison: key objects do not implement equality, and the certificate identifies the key."""

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

    @property
    def pck_chain(self) -> bytes:
        """Leaf, intermediate and root as PEM, for quotes."""
        return self.pck.pem + self.pck_ca.pem + self.root.pem


def require_simulated_names(certificate: x509.Certificate) -> None:
    """Reject a certificate unless subject and issuer both say that they are simulated."""
    for name in (certificate.subject, certificate.issuer):
        if not marks.has_simulated_name(name):
            raise IntelNameError(
                f"a certificate with the name {name.rfc4514_string()} is refused",
                why="every name of a simulated platform must say that it is simulated and not Intel's",
                remedy="name it with confcom.simulation.issuing.simulated_name",
            )


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity period of collateral; whole seconds, aware times."""

    issue_date: datetime
    next_update: datetime

    @classmethod
    def around(cls, origin: datetime, now: datetime) -> Self:
        """Return the validity of collateral made at `now`.

        Issue dates start at `origin` and are one renewal interval apart. All calls within one interval return the same
        dates and, because signatures are deterministic, lead to the same bytes: several helpers and exports of one
        platform agree without communication.
        """
        start = origin + (now - BACKDATE - origin) // RENEWAL_INTERVAL * RENEWAL_INTERVAL
        return cls(start, start + VALIDITY)
