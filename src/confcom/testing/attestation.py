"""Makes quotes of simulated platforms, with the defects that a test chooses, in this process."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self

from confcom.errors import WrongValueError
from confcom.sgx.pck.extension import FMSPC_SIZE, PckExtension
from confcom.sgx.report import AttributeFlag
from confcom.sgx.report import report_data as with_zeros
from confcom.sgx.signed_json import MAX_INTEGER
from confcom.sgx.simulation_marks import FMSPC, FMSPC_PREFIX
from confcom.sgx.tcb_documents import PLATFORM_STATUSES, TcbStatus
from confcom.sgx.td_report import TdAttribute, TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import FIRST_NUMBER, Staging
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import SEED_SIZE, RootSeed
from confcom.simulation.simulated_collateral import create_collateral
from confcom.simulation.td_quoting_enclave import quote_td
from confcom.simulation.trust_domain import MR_SERVICE_TD, report_as, simulated_td
from confcom.verify.argument_types import binary, number
from confcom.verify.policy import advisory_id
from confcom.verify.prepared_collateral import Collateral
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.tdx_policy import TdxPolicy
from confcom.verify.trust import TrustedRoot

DEFAULT_ENCLAVE: Final = SimulatedEnclave.from_name("confcom.testing")
_TD: Final = simulated_td("confcom.testing")

TdBody = Literal["1.0", "1.5", "1.5ex"]
_TD_REPORTS: Final = {"1.0": TdReport10, "1.5": TdReport15, "1.5ex": TdReport15Ex}


@dataclass(frozen=True, slots=True, repr=False)
class Evidence:
    """A quote, and the collateral, root and platform id with which a relying party verifies the quote."""

    quote: bytes
    """The quote, with its certificates: of version 3 for SGX, of version 4 or 5 for TDX."""
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
    td: TdReport15
    """The report of the trust domain (TD) that is quoted if the call of `td_quote` changes no field."""
    _seed: RootSeed

    @classmethod
    def create(cls, enclave: SimulatedEnclave = DEFAULT_ENCLAVE, *, now: datetime | None = None) -> Self:
        """Return an Attestation whose new root is valid from a day before `now` (default: the present)."""
        seed = RootSeed(secrets.token_bytes(SEED_SIZE), int((now or datetime.now(UTC)).timestamp()))
        return cls(TrustedRoot.load(SimulatedPlatform.of_root(seed).pki.root.der), enclave, _TD, seed)

    def policy(self, challenge: bytes, **demands: Any) -> SgxPolicy:  # noqa: ANN401 # SgxPolicy's arguments
        """Return a policy that accepts a good quote over the challenge; `demands` are other arguments of SgxPolicy."""
        accepted = {"mr_enclave": self.enclave.mr_enclave, "allow_simulated": True}
        return SgxPolicy.for_challenge(challenge, **(accepted | demands))

    def td_policy(self, challenge: bytes, **demands: Any) -> TdxPolicy:  # noqa: ANN401 # TdxPolicy's arguments
        """Return a policy that accepts a good TD quote over the challenge; `demands` are arguments of TdxPolicy.

        The policy demands MRTD and RTMR0 to RTMR2 of this Attestation's TD.
        """
        accepted = {name: getattr(self.td, name) for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")}
        return TdxPolicy.for_challenge(challenge, **(accepted | {"allow_simulated": True} | demands))

    def quote(
        self,
        report_data: bytes,
        *,
        enclave: SimulatedEnclave | None = None,
        tcb: TcbStatus | str = TcbStatus.UP_TO_DATE,
        debug: bool = False,
        advisories: Iterable[str] = (),
        evaluation: int = FIRST_NUMBER,
        revoked: bool = False,
        expired: bool = False,
        platform: str = "",
        fmspc: bytes | str | None = None,
        now: datetime | None = None,
    ) -> Evidence:
        """Return a quote, its collateral and the root; if only `report_data` is passed, `policy` accepts it.

        Args:
            report_data: the first 1 to 64 bytes of the report data; zeros follow.
            enclave: the quoted enclave; None means this Attestation's enclave.
            tcb: the status of the platform's TCB in the collateral: a TcbStatus, or its name.
            debug: whether the enclave is a debug enclave.
            advisories: names such as INTEL-SA-00615 that apply to the platform, besides SIMULATED-NOT-GENUINE-INTEL.
            evaluation: the TCB evaluation data number of the collateral.
            revoked: whether the platform's PCK certificate is revoked.
            expired: whether the collateral has expired.
            platform: the name of another machine under the same root. The machine is of another kind, so it has another
                platform id and FMSPC, and other collateral.
            fmspc: the kind of the machine, 6 bytes or 12 hexadecimal digits, which begin with the bytes `SIMS`, as
                in all simulated platforms. Machines of one kind have the same collateral.
            now: the time at which the collateral is current; by default the present. This moves the dates of TCB info,
                QE identity and revocation lists only: certificates are valid for 20 years from a day before the `now`
                of `create`.

        Raises:
            SettingsError: the report data is empty or too long, or another argument has an impossible value.
        """
        chosen = enclave or self.enclave
        if debug:
            chosen = replace(chosen, flags=chosen.flags | AttributeFlag.DEBUG)
        simulated = self._platform(platform, fmspc)
        quoting_enclave = simulated.quoting_enclave()
        report = chosen.create_report(quoting_enclave.checker.target, with_zeros(report_data))
        quote, _ = quoting_enclave.quote(report, None)
        collateral = self.collateral(
            tcb=tcb,
            advisories=advisories,
            evaluation=evaluation,
            revoked=revoked,
            expired=expired,
            platform=platform,
            fmspc=fmspc,
            now=now,
        )
        return self._evidence(quote, collateral, simulated)

    def td_quote(
        self,
        report_data: bytes,
        *,
        body: TdBody = "1.5",
        tcb: TcbStatus | str = TcbStatus.UP_TO_DATE,
        debug: bool = False,
        service_td: bool = False,
        advisories: Iterable[str] = (),
        evaluation: int = FIRST_NUMBER,
        revoked: bool = False,
        expired: bool = False,
        platform: str = "",
        fmspc: bytes | str | None = None,
        now: datetime | None = None,
        **fields: Any,  # noqa: ANN401 # those of TdReport15
    ) -> Evidence:
        """Return a quote of a trust domain (TD), its collateral and the root.

        `fields` are fields of the TD report that differ from those of this Attestation's TD, such as `mr_td=` and
        `rtmr0=`. `body` is the version of the TD report: the quote has version 4
        with a TD report 1.0, and otherwise version 5. With `debug`, the TD is a debug TD. With `service_td`, a service
        TD, such as a migration TD, is bound to it. All other arguments are those of `quote`.

        The statuses TDRelaunchAdvised and TDRelaunchAdvisedConfigurationNeeded need a TD that was launched before the
        TDX module's last update, as the default TD was. These two statuses and `service_td` need a body other than 1.0.

        Raises:
            SettingsError: the report data is empty or too long, or another argument has an impossible value.
            MalformedError: a field has the wrong size.
        """
        if body not in _TD_REPORTS:
            raise WrongValueError(f"{body!r} is not a version of TD reports", remedy=f"pass {', '.join(_TD_REPORTS)}")
        if body == "1.0" and (service_td or tcb not in PLATFORM_STATUSES):
            raise WrongValueError(
                f"a TD report {body} has no service TD and no status {tcb}",
                why="it has neither MRSERVICETD nor TEE_TCB_SVN2",
                remedy="choose the body 1.5 or 1.5ex",
            )
        td = replace(self.td, report_data=with_zeros(report_data), **fields)
        if debug:
            td = replace(td, td_attributes=td.td_attributes | TdAttribute.DEBUG)
        if service_td:
            td = replace(td, mr_service_td=MR_SERVICE_TD)
        simulated = self._platform(platform, fmspc)
        quote = quote_td(simulated.seed, simulated.pki, report_as(_TD_REPORTS[body], td))
        collateral = self.collateral(
            tee=TeeType.TDX,
            tcb=tcb,
            advisories=advisories,
            evaluation=evaluation,
            revoked=revoked,
            expired=expired,
            platform=platform,
            fmspc=fmspc,
            now=now,
        )
        return self._evidence(quote, collateral, simulated)

    def collateral(
        self,
        *,
        tee: TeeType = TeeType.SGX,
        tcb: TcbStatus | str = TcbStatus.UP_TO_DATE,
        advisories: Iterable[str] = (),
        evaluation: int = FIRST_NUMBER,
        revoked: bool = False,
        expired: bool = False,
        platform: str = "",
        fmspc: bytes | str | None = None,
        now: datetime | None = None,
    ) -> Collateral:
        """Return the collateral of a platform for quotes of SGX or, with `tee=TeeType.TDX`, of TDX.

        The other arguments and the errors are those of `quote`.
        """
        statuses = [status for status in TcbStatus if tee is TeeType.TDX or status in PLATFORM_STATUSES]
        if tcb not in statuses:
            raise WrongValueError(
                f"{tcb!r} is not a TCB status of {tee.name}", remedy=f"pass one of {', '.join(statuses)}"
            )
        number("the evaluation number", evaluation, MAX_INTEGER)
        made = create_collateral(
            self._platform(platform, fmspc).pki,
            now or datetime.now(UTC),
            Staging.EXPIRED if expired else Staging.NONE,
            tee=tee,
            number=evaluation,
            status=TcbStatus(tcb),
            advisories=tuple(map(advisory_id, advisories)),
            revoked=revoked,
        )
        return Collateral.from_files(made.to_files())

    def _evidence(self, quote: bytes, collateral: Collateral, simulated: SimulatedPlatform) -> Evidence:
        extension = PckExtension.from_certificate(simulated.pki.pck.certificate)
        return Evidence(quote, collateral, self.root, extension.platform_instance_id or extension.ppid)

    def _platform(self, name: str, fmspc: bytes | str | None) -> SimulatedPlatform:
        own = FMSPC_PREFIX + hashlib.sha256(name.encode()).digest()[: FMSPC_SIZE - len(FMSPC_PREFIX)] if name else FMSPC
        kind = binary("the FMSPC", fmspc, FMSPC_SIZE) or own
        if not kind.startswith(FMSPC_PREFIX):
            raise WrongValueError(
                f"the FMSPC {kind.hex()} is not a simulated platform's",
                why="under a simulated root, verifiers accept no other",
                remedy=f"let it begin with {FMSPC_PREFIX.hex()}",
            )
        return SimulatedPlatform.of_root(self._seed, name, kind)
