"""One simulated SGX platform: its seed, its certificates, and what is derived from them."""

from __future__ import annotations

import binascii
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import MalformedError
from confcom.sgx.certification import UNREADABLE_X509
from confcom.simulation.keys import SEED_SIZE
from confcom.simulation.pki import PckCaType, Pki, Role
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY, QuotingEnclave, QuotingEnclaveIdentity

if TYPE_CHECKING:
    from confcom.sgx.collateral.bundle import Collateral

STATE_FORMAT = "confcom-simulated-platform-1"
"""Format and version of a stored platform; another number means that another version of confcom wrote it."""

MAX_STATE_SIZE = 65_536
"""In bytes. A stored platform takes about 4 KB; a much larger file is not one, and is rejected."""


class PlatformStateError(MalformedError):
    """A stored platform cannot be used."""


@dataclass(frozen=True, slots=True)
class SimulatedPlatform:
    """A simulated platform. The seed is secret: with it, anyone can make this platform's quotes."""

    seed: bytes = field(repr=False)
    pki: Pki = field(repr=False)

    @classmethod
    def create(cls, seed: bytes, now: datetime, *, ca_type: PckCaType = PckCaType.PLATFORM) -> Self:
        """Create a platform; the same arguments give the same platform, byte for byte."""
        # A platform is created once but loaded at every start, which this import would slow down.
        from confcom.simulation.issuing import issue_pki  # noqa: PLC0415 # see above

        return cls(seed, issue_pki(seed, now, ca_type=ca_type))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the output of `encode`. Nothing is repaired: a damaged platform must not become another one.

        Raises:
            PlatformStateError: `data` is not a stored platform of this version; the error gives the reason.
        """
        try:
            return cls._parse(data)
        except MalformedError as error:
            raise PlatformStateError(
                "the stored simulated platform cannot be used",
                error_code="platform-unusable",
                why=str(error),
                remedy="restore it from a copy; or, if no relying party uses its root any more, choose a new, empty "
                "state "
                "directory",
            ) from error

    @classmethod
    def _parse(cls, data: bytes) -> Self:
        fields = _fields(data)
        if fields["format"] != STATE_FORMAT:
            raise MalformedError(
                f"its format is {fields['format'][:64]!r} and this version reads {STATE_FORMAT!r}",
                error_code="unsupported-platform-format",
            )
        try:
            seed = binascii.unhexlify(fields["seed"])
        except (binascii.Error, ValueError) as error:
            raise MalformedError("its seed is not hex", error_code="not-hexadecimal") from error
        if len(seed) != SEED_SIZE:
            raise MalformedError(f"its seed is {len(seed)} bytes instead of {SEED_SIZE}", error_code="wrong-size")
        certificates = {role: _certificate(role, fields[role.value]) for role in Role}
        return cls(seed, Pki.load(seed, certificates))

    def encode(self) -> bytes:
        """Encode the whole platform, including its secret, as JSON for storage.

        Certificates are stored and not issued again, so that a new version of this software cannot change the root
        that relying parties pinned.
        """
        fields = {"format": STATE_FORMAT, "seed": self.seed.hex()}
        for role, certificate in self.pki.certificates.items():
            fields[role.value] = certificate.public_bytes(Encoding.PEM).decode()
        return (json.dumps(fields, indent=1) + "\n").encode()

    def quoting_enclave(self, identity: QuotingEnclaveIdentity = DEFAULT_QE_IDENTITY) -> QuotingEnclave:
        """Load a quoting enclave on this platform."""
        return QuotingEnclave.load(self.seed, self.pki, identity)

    def collateral(self, now: datetime, identity: QuotingEnclaveIdentity = DEFAULT_QE_IDENTITY) -> Collateral:
        """Create what a relying party needs besides the root, signed for the period that contains `now`."""
        # Only exports need this import, and they run in other processes than quoting.
        from confcom.simulation.collateral import create_collateral  # noqa: PLC0415 # see above

        return create_collateral(self.pki, identity, now)

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root certificate's DER, in hex, for relying parties to compare."""
        return hashlib.sha256(self.pki.root.der).hexdigest()


def _fields(data: bytes) -> dict[str, str]:
    if len(data) > MAX_STATE_SIZE:
        raise MalformedError(f"it is larger than {MAX_STATE_SIZE} bytes", error_code="too-long")
    if not data:
        raise MalformedError("it is empty", error_code="empty")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError("it is not JSON", error_code="not-json") from error
    expected = {"format", "seed", *(role.value for role in Role)}
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise MalformedError("it is not one JSON object of strings", error_code="wrong-member")
    if fields.keys() != expected:
        differing = ", ".join(sorted(str(name)[:64] for name in fields.keys() ^ expected))
        raise MalformedError(f"members are missing or unknown: {differing}"[:500], error_code="wrong-members")
    return fields


def _certificate(role: Role, pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except UNREADABLE_X509 as error:
        raise MalformedError(f"its {role.value} certificate cannot be read", error_code="not-a-certificate") from error
