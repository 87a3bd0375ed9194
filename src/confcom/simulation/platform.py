"""One simulated SGX platform: seed and certificates, which give its quoting enclave and collateral."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from confcom.sgx.simulation_marks import FMSPC
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.pki import BACKDATE, PLATFORM_CA, Pki, issue_pki
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY, QuotingEnclave

if TYPE_CHECKING:
    from confcom.sgx.collateral_bundle import CollateralBundle
    from confcom.simulation.enclave import SimulatedEnclave
    from confcom.simulation.root_seed import RootSeed


@dataclass(frozen=True, slots=True)
class SimulatedPlatform:
    """A simulated platform. The seed is secret: whoever has it can make this platform's quotes."""

    seed: bytes = field(repr=False)
    pki: Pki = field(repr=False)

    @classmethod
    def create(
        cls,
        seed: bytes,
        now: datetime,
        *,
        ca: str = PLATFORM_CA,
        node: str = "",
        fmspc: bytes = FMSPC,
    ) -> Self:
        """Create a platform; the same arguments give the same platform, byte for byte, in every release."""
        return cls(seed, issue_pki(seed, now, ca=ca, node=node, fmspc=fmspc))

    @classmethod
    def of_root(cls, root: RootSeed, node: str = "", fmspc: bytes = FMSPC) -> Self:
        """Create the platform that a node has under a stored root; the node's name may be empty."""
        return cls.create(root.seed, datetime.fromtimestamp(root.created, UTC), node=node, fmspc=fmspc)

    def under(self, ca: str) -> Self:
        """Return this root's platform with this kind of PCK CA, because services serve both kinds' revocation lists."""
        created = self.pki.root.certificate.not_valid_before_utc + BACKDATE
        return self.create(self.seed, created, ca=ca)

    def quoting_enclave(self, enclave: SimulatedEnclave = DEFAULT_QE_IDENTITY) -> QuotingEnclave:
        return QuotingEnclave.load(self.seed, self.pki, enclave)

    def collateral(
        self,
        now: datetime,
        *,
        staging: Staging = Staging.NONE,
        early: bool = False,
        tee: TeeType = TeeType.SGX,
    ) -> CollateralBundle:
        """Create the collateral that a relying party needs, signed for the period that contains `now`.

        The early set and the standard set differ only with Staging.EARLY.
        """
        # Only exports and services need this import; processes that make quotes do not.
        from confcom.simulation.simulated_collateral import create_collateral  # noqa: PLC0415 # see above

        return create_collateral(self.pki, now, staging, early=early, tee=tee)

    def unusable(self, now: datetime) -> str:
        """Return why no verifier trusts the root at `now` (with time zone); empty if the root is valid."""
        root = self.pki.root.certificate
        first, last = root.not_valid_before_utc, root.not_valid_after_utc
        return "" if first <= now <= last else f"its root is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d} only"

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root certificate's DER, in hex, for relying parties to compare."""
        return hashlib.sha256(self.pki.root.der).hexdigest()
