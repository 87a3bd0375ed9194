"""Policies: a relying party's demands on a quote, beyond its authenticity. This module has those of every TEE."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final, Generic, Self

from confcom.errors import WrongTypeError, WrongValueError
from confcom.sgx.report import REPORT_DATA_SIZE, report_data
from confcom.sgx.signed_json import MAX_INTEGER
from confcom.sgx.simulation_marks import ADVISORY_ID as SIMULATED_ADVISORY_ID
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify import argument_types
from confcom.verify.argument_types import Argument, Binary, argument, boolean, duration, set_of, sized
from confcom.verify.verdict import TeeClaimsT_co

PLATFORM_SIZES: Final = (16, 32)
"""Bytes of what identifies a platform: a PPID or platform instance id, or the SHA-256 of one of these ids."""

_INTEL_ADVISORY: Final = re.compile(r"INTEL-SA-[0-9]{5}")
_UP_TO_DATE: Final = frozenset({TcbStatus.UP_TO_DATE})


def advisory_id(text: object) -> str:
    """Return an advisory's name in upper case, as TCB info writes it."""
    if not isinstance(text, str):
        raise WrongTypeError("an advisory", "text such as INTEL-SA-00334", text)
    normal = text.strip().upper()
    if normal == SIMULATED_ADVISORY_ID or _INTEL_ADVISORY.fullmatch(normal):
        return normal
    raise WrongValueError(
        f"{text!r} is not the name of an advisory",
        why=f"Intel's are INTEL-SA- and five digits, and simulated platforms have {SIMULATED_ADVISORY_ID}; another "
        "text would name nothing",
        remedy="pass one name, such as INTEL-SA-00334; for several, each by itself",
    )


def platform_id(value: object) -> bytes:
    """Return what identifies a platform, bytes or hexadecimal text, as bytes."""
    data = argument_types.binary("a platform", value, *PLATFORM_SIZES)
    if data is None:
        raise WrongTypeError("a platform", "bytes or hexadecimal text", value)
    return data


def _tcb_status(value: object) -> TcbStatus:
    if not isinstance(value, TcbStatus | str):
        raise WrongTypeError("a TCB status", "a TcbStatus or its name, such as OutOfDate", value)
    try:
        status = TcbStatus(value)
    except ValueError as error:
        names = ", ".join(known for known in TcbStatus if known is not TcbStatus.REVOKED)
        raise WrongValueError(f"{value!r} is not a TCB status", remedy=f"pass one of {names}") from error
    if status is TcbStatus.REVOKED:
        raise WrongValueError(
            "a revoked TCB cannot be accepted",
            why="keys of a revoked TCB are known to be compromised",
            remedy="remove Revoked from the accepted statuses",
        )
    return status


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Generic[TeeClaimsT_co]):
    """The demands that a relying party can make of quotes of every TEE.

    This base class has no instances: use `SgxPolicy` for enclaves, or `TdxPolicy` for TDs. Without arguments, a policy
    demands nothing and verifies no quote. The type is generic in the claims of its verdicts, so that an SgxPolicy is a
    `Policy[SgxClaims]`, and a TdxPolicy a `Policy[TdxClaims]`; `Policy` alone is either.

    Args:
        report_data: 64 bytes; `confcom.verify.report_data` extends a shorter value.
        allow_simulated: accept a simulated platform, which protects nothing.
        allow_debug: accept debug enclaves and debug TDs, but only of simulated platforms.
        accepted_tcb_statuses: members of TcbStatus, or their names as Intel writes them; by default UpToDate alone.
            Revoked cannot be accepted, and an empty collection accepts no status.
        accepted_advisories: names such as INTEL-SA-00334, in any letter case; a platform to which another advisory
            applies is refused, whatever its TCB status. For example, SWHardeningNeeded can be accepted with known
            advisories only. None accepts all, an empty collection none. `allow_simulated` alone decides on
            SIMULATED-NOT-GENUINE-INTEL, which every simulated platform has.
        rejected_advisories: names of advisories, also SIMULATED-NOT-GENUINE-INTEL; a platform to which one of them
            applies is refused, even if `accepted_advisories` has it.
        platforms: the accepted machines, as PPIDs or platform instance ids (16 bytes), or the SHA-256 of such ids (32
            bytes). `confcom inspect` shows the ids of a quote. None accepts any machine, and () accepts none.
        min_tcb_evaluation_number: the lowest TCB evaluation data number that is accepted, 0 to 2^31 - 1.
            Intel serves a new set of collateral first as the early set, and months later as the standard set;
            for example, 20 refuses the standard set with number 19.
        platform_grace_period: how long after the date of its TCB level an out-of-date platform still counts
            as not out of date; zero by default. The TDX module is a part of the platform. A platform that counts as
            not out of date does not get a status TDRelaunchAdvised either.
        qe_grace_period: the same period for an out-of-date quoting enclave; zero by default.
        max_collateral_age: the greatest accepted age of the collateral's oldest part; the root's revocation list, which
            is renewed yearly, is exempt. None means that only expiry counts (at Intel, 30 days after issue).
        clock_leeway: by how much this machine's clock may be wrong, at most five minutes; zero by default. Collateral
            and certificates that are not yet valid, or expired, by at most this time count as valid.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value. The constructor refuses the value, so that the
            mistake does not later look like a bad quote.
        WrongTypeError: a value has the wrong type, or Policy itself is called.
    """

    report_data: Binary = sized(REPORT_DATA_SIZE)
    allow_simulated: bool = argument(False, boolean)
    allow_debug: bool = argument(False, boolean)
    accepted_tcb_statuses: Argument[Iterable[TcbStatus | str], frozenset[TcbStatus]] = set_of(_tcb_status, _UP_TO_DATE)
    accepted_advisories: Argument[Iterable[str] | None, frozenset[str] | None] = set_of(advisory_id, None)
    rejected_advisories: Argument[Iterable[str], frozenset[str]] = set_of(advisory_id, frozenset())
    platforms: Argument[Iterable[bytes | str] | None, frozenset[bytes] | None] = set_of(platform_id, None)
    min_tcb_evaluation_number: int | None = argument_types.bounded(MAX_INTEGER)
    platform_grace_period: timedelta = argument(timedelta(0), duration)
    qe_grace_period: timedelta = argument(timedelta(0), duration)
    max_collateral_age: timedelta | None = argument(None, duration)
    clock_leeway: timedelta = argument(timedelta(0), argument_types.clock_leeway)

    tee: ClassVar[TeeType]
    _IDENTITY: ClassVar[tuple[str, ...]]
    """The arguments of which one must be set, or any enclave or TD would be accepted."""

    def __post_init__(self) -> None:
        if type(self) is Policy:
            raise WrongTypeError("a policy", "an SgxPolicy for enclaves, or a TdxPolicy for TDs", object())
        argument_types.check_arguments(self)

    @property
    def names_identity(self) -> bool:
        """Whether the policy says which enclaves or TDs it accepts, even if it accepts none."""
        return any(getattr(self, name) is not None for name in self._IDENTITY)

    @classmethod
    def for_challenge(cls, challenge: bytes, **demands: Any) -> Self:  # noqa: ANN401 # the constructor's types
        """Return a policy that demands a challenge of 1 to 64 bytes as report data.

        A challenge under 64 bytes is extended with zeros. `demands` are the constructor's arguments except report_data.

        Raises:
            SettingsError: the challenge is empty or too long, or the constructor refuses another argument.
        """
        return cls(report_data=report_data(challenge), **demands)


def require_policy(value: object) -> None:
    if not isinstance(value, Policy):
        raise WrongTypeError("the policy", "an SgxPolicy or a TdxPolicy", value)
