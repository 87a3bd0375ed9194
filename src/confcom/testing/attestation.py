"""Makes quotes of simulated platforms, with the defects that a test chooses, in this process."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import WrongValueError
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.report import AttributeFlag
from confcom.sgx.report import report_data as with_zeros
from confcom.sgx.tcb_documents import TCB_INFO_NAME, TcbStatus
from confcom.simulation.collateral_staging import FIRST_NUMBER, Staging
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import SEED_SIZE, RootSeed
from confcom.simulation.simulated_collateral import create_crl, sign_document, staged_validity, tcb_info
from confcom.verify.policy import SgxPolicy
from confcom.verify.prepared_collateral import Collateral
from confcom.verify.trust import TrustedRoot

DEFAULT_ENCLAVE: Final = SimulatedEnclave.from_name("confcom.testing")


@dataclass(frozen=True, slots=True, repr=False)
class Evidence:
    """A quote, and the collateral, root and platform id with which a relying party verifies the quote."""

    quote: bytes
    """The quote, of version 3, with its certificates."""
    collateral: Collateral
    """The collateral of the quote's platform."""
    root: TrustedRoot
    """The simulated root, for the argument `root` of `verify`."""
    platform_id: bytes
    """The platform instance id of the machine, 16 bytes, for a policy's `platforms`."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """Makes quotes under one simulated root, which relying parties trust only in tests. `create` makes instances."""

    root: TrustedRoot
    """The root of all quotes of this Attestation."""
    enclave: SimulatedEnclave
    """The enclave that is quoted if the call of `quote` names no other enclave."""
    _seed: RootSeed

    @classmethod
    def create(cls, enclave: SimulatedEnclave = DEFAULT_ENCLAVE, *, now: datetime | None = None) -> Self:
        """Return an Attestation whose new root is valid from a day before `now` (default: the present)."""
        seed = RootSeed(secrets.token_bytes(SEED_SIZE), int((now or datetime.now(UTC)).timestamp()))
        return cls(TrustedRoot.load(SimulatedPlatform.of_root(seed).pki.root.der), enclave, seed)

    def policy(self, challenge: bytes, **demands: Any) -> SgxPolicy:  # noqa: ANN401 # SgxPolicy's arguments
        """Return a policy that accepts a good quote over the challenge; `demands` are other arguments of SgxPolicy."""
        accepted = {"mr_enclave": self.enclave.mr_enclave, "allow_simulated": True}
        return SgxPolicy.for_challenge(challenge, **(accepted | demands))

    def quote(
        self,
        report_data: bytes,
        *,
        enclave: SimulatedEnclave | None = None,
        tcb: TcbStatus | str = TcbStatus.UP_TO_DATE,
        debug: bool = False,
        revoked: bool = False,
        expired: bool = False,
        platform: str = "",
        now: datetime | None = None,
    ) -> Evidence:
        """Return a quote, its collateral and the root; if only `report_data` is passed, `policy` accepts it.

        Args:
            report_data: the first 1 to 64 bytes of the report data; zeros follow.
            enclave: the quoted enclave; None means this Attestation's enclave.
            tcb: the status of the platform's TCB in the collateral: a TcbStatus, or its name.
            debug: whether the enclave is a debug enclave.
            revoked: whether the platform's PCK certificate is revoked.
            expired: whether the collateral has expired.
            platform: the name of another machine under the same root, which has another platform id.
            now: the time at which the collateral is current; by default the present.

        Raises:
            SettingsError: the report data is empty or too long, or `tcb` is no TCB status.
        """
        if tcb not in {form for status in TcbStatus for form in (status, status.value)}:
            names = ", ".join(status.value for status in TcbStatus)
            raise WrongValueError(f"{tcb!r} is not a TCB status", remedy=f"pass one of {names}")
        chosen, now = enclave or self.enclave, now or datetime.now(UTC)
        if debug:
            chosen = replace(chosen, flags=chosen.flags | AttributeFlag.DEBUG)
        simulated = SimulatedPlatform.of_root(self._seed, platform)
        quoting_enclave = simulated.quoting_enclave()
        report = chosen.create_report(quoting_enclave.target_info, with_zeros(report_data))
        quote, _ = quoting_enclave.quote(report, None)
        collateral = _collateral(simulated, TcbStatus(tcb), now, expired=expired, revoked=revoked)
        extension = PckExtension.from_certificate(simulated.pki.pck.certificate)
        return Evidence(quote, collateral, self.root, extension.platform_instance_id or extension.ppid)


def _collateral(
    platform: SimulatedPlatform, status: TcbStatus, now: datetime, *, expired: bool, revoked: bool
) -> Collateral:
    staging, pki = Staging.EXPIRED if expired else Staging.NONE, platform.pki
    collateral = Collateral.from_files(platform.collateral(now, staging=staging).to_files())
    validity = staged_validity(pki, now, staging)
    if status is not TcbStatus.UP_TO_DATE:
        document = tcb_info(validity, pki.root.certificate.not_valid_before_utc, FIRST_NUMBER, status)
        collateral = replace(collateral, tcb_info=sign_document(TCB_INFO_NAME, document, pki.tcb_signer.private_key))
    if revoked:
        crl = create_crl(
            pki.pck_ca,
            last_update=validity.issue_date,
            next_update=validity.next_update,
            revoked=(pki.pck.certificate.serial_number,),
        )
        collateral = replace(collateral, pck_crl=crl.public_bytes(Encoding.DER))
    return collateral
