"""Policies: a relying party's demands on a quote, beyond its authenticity."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Self

from confcom.errors import WrongTypeError, WrongValueError
from confcom.sgx.report import REPORT_DATA_SIZE, report_data
from confcom.sgx.signed_json import MAX_INTEGER
from confcom.sgx.simulation_marks import ADVISORY_ID as SIMULATED_ADVISORY_ID
from confcom.sgx.tcb_documents import TcbStatus
from confcom.verify import argument_types
from confcom.verify.argument_types import binary, boolean, duration, number
from confcom.verify.verdict import Claims

MEASUREMENT_SIZE = 32
"""Bytes of MRENCLAVE and of MRSIGNER, which are SHA-256 digests (SDM, "SECS")."""
CONFIG_ID_SIZE = 64
"""Bytes of CONFIGID (SDM, "REPORT")."""
KSS_ID_SIZE = 16
"""Bytes of ISVEXTPRODID and of ISVFAMILYID (SDM, "REPORT")."""
MAX_UINT16 = 0xFFFF
"""Greatest ISVPRODID, ISVSVN and CONFIGSVN, which are 16-bit fields of the report body (SDM, "REPORT")."""

PLATFORM_SIZES: Final = (16, 32)
"""Bytes of what identifies a platform: a PPID or platform instance id, or the SHA-256 of one of these ids."""

_INTEL_ADVISORY: Final = re.compile(r"INTEL-SA-[0-9]{5}")
DEFAULT_TCB_STATUSES: Final = frozenset({TcbStatus.UP_TO_DATE})


@dataclass(frozen=True, slots=True, init=False)
class Identity:
    """An accepted enclave, named by its measurement (mr_enclave), by its signer (mr_signer), or by both.

    Args:
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: 0 to 65,535.
        min_isv_svn: 0 to 65,535, the lowest that is accepted.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value, or neither `mr_enclave` nor `mr_signer` is given.
    """

    mr_enclave: bytes | None
    mr_signer: bytes | None
    isv_prod_id: int | None
    min_isv_svn: int | None

    def __init__(
        self,
        *,
        mr_enclave: bytes | str | None = None,
        mr_signer: bytes | str | None = None,
        isv_prod_id: int | None = None,
        min_isv_svn: int | None = None,
    ) -> None:
        values = {
            "mr_enclave": binary("the identity's mr_enclave", mr_enclave, MEASUREMENT_SIZE),
            "mr_signer": binary("the identity's mr_signer", mr_signer, MEASUREMENT_SIZE),
            "isv_prod_id": number("the identity's isv_prod_id", isv_prod_id, MAX_UINT16),
            "min_isv_svn": number("the identity's min_isv_svn", min_isv_svn, MAX_UINT16),
        }
        if mr_enclave is None and mr_signer is None:
            raise WrongValueError(
                "an identity names neither mr_enclave nor mr_signer",
                why="any enclave would fit, even an attacker's",
                remedy="give it one of these",
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def fits(self, claims: Claims) -> bool:
        """Return whether the claims fit this identity."""
        return (
            self.mr_enclave in {None, claims.mr_enclave}
            and self.mr_signer in {None, claims.mr_signer}
            and self.isv_prod_id in {None, claims.isv_prod_id}
            and claims.isv_svn >= (self.min_isv_svn or 0)
        )


class Policy:
    """A relying party's demands on the quotes of one kind of TEE. This base class has no instances: use `SgxPolicy`.

    Raises:
        WrongTypeError: Policy itself is called.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        """Refuse to make an instance of this class itself."""
        if cls is Policy:
            raise WrongTypeError("a policy", "an SgxPolicy, for quotes of SGX enclaves", super().__new__(cls))
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, init=False)
class SgxPolicy(Policy):
    """A relying party's demands on SGX quotes. Without arguments, a policy demands nothing and verifies no quote.

    A quote can be verified only if the policy names an identity (`mr_enclave`, `mr_signer` or `identities`)
    and `report_data`. Without an identity any enclave would be accepted; without report data an old quote
    could be replayed.

    Args:
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: 0 to 65,535.
        min_isv_svn: 0 to 65,535, the lowest that is accepted.
        report_data: 64 bytes; `confcom.verify.report_data` extends a shorter value.
        config_id: CONFIGID, 64 bytes: the configuration that the enclave was started with. CONFIGID and the next three
            are zero in enclaves without Key Separation and Sharing (SDM, "Key Separation and Sharing").
        min_config_svn: CONFIGSVN, 0 to 65,535, the lowest that is accepted.
        isv_ext_prod_id: ISVEXTPRODID, 16 bytes.
        isv_family_id: ISVFAMILYID, 16 bytes.
        allow_simulated: accept a simulated platform, which protects nothing.
        allow_debug: accept debug enclaves, but only of simulated platforms.
        accepted_tcb_statuses: members of TcbStatus, or their names as Intel writes them; by default UpToDate alone.
            Revoked cannot be accepted, and an empty collection accepts no status.
        accepted_advisories: names such as INTEL-SA-00334, in any letter case; a platform to which another advisory
            applies is refused, whatever its TCB status. For example, SWHardeningNeeded can be accepted with known
            advisories only. None accepts all, an empty collection none. `allow_simulated` alone decides on
            SIMULATED-NOT-GENUINE-INTEL, which every simulated platform has.
        rejected_advisories: names of advisories, also SIMULATED-NOT-GENUINE-INTEL; a platform to which one of them
            applies is refused, even if `accepted_advisories` has it.
        identities: the accepted enclaves; a quote must fit one of these, and also the demands above. None
            means that only the demands above apply; an empty collection accepts no enclave.
        platforms: the accepted machines, as PPIDs or platform instance ids (16 bytes), or the SHA-256 of such ids (32
            bytes). `confcom inspect` shows the ids of a quote. None accepts any machine, and () accepts none.
        min_tcb_evaluation_number: the lowest TCB evaluation data number that is accepted, 0 to 2^31 - 1.
            Intel serves a new set of collateral first as the early set, and months later as the standard set;
            for example, 20 refuses the standard set with number 19.
        platform_grace_period: how long after the date of its TCB level an out-of-date platform still counts
            as not out of date; zero by default.
        qe_grace_period: the same period for an out-of-date quoting enclave; zero by default.
        max_collateral_age: the greatest accepted age of the collateral's oldest part; the root's revocation list, which
            is renewed yearly, is exempt. None means that only expiry counts (at Intel, 30 days after issue).
        clock_leeway: by how much this machine's clock may be wrong, at most five minutes; zero by default. Collateral
            and certificates that are not yet valid, or expired, by at most this time count as valid.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value. The constructor refuses the value, so that the
            mistake does not later look like a bad quote.
        WrongTypeError: a value has the wrong type.
    """

    mr_enclave: bytes | None
    mr_signer: bytes | None
    isv_prod_id: int | None
    min_isv_svn: int | None
    report_data: bytes | None
    config_id: bytes | None
    min_config_svn: int | None
    isv_ext_prod_id: bytes | None
    isv_family_id: bytes | None
    allow_simulated: bool
    allow_debug: bool
    accepted_tcb_statuses: frozenset[TcbStatus]
    accepted_advisories: frozenset[str] | None
    rejected_advisories: frozenset[str]
    identities: tuple[Identity, ...] | None
    platforms: frozenset[bytes] | None
    min_tcb_evaluation_number: int | None
    platform_grace_period: timedelta
    qe_grace_period: timedelta
    max_collateral_age: timedelta | None
    clock_leeway: timedelta

    def __init__(
        self,
        *,
        mr_enclave: bytes | str | None = None,
        mr_signer: bytes | str | None = None,
        isv_prod_id: int | None = None,
        min_isv_svn: int | None = None,
        report_data: bytes | str | None = None,
        config_id: bytes | str | None = None,
        min_config_svn: int | None = None,
        isv_ext_prod_id: bytes | str | None = None,
        isv_family_id: bytes | str | None = None,
        allow_simulated: bool = False,
        allow_debug: bool = False,
        accepted_tcb_statuses: Iterable[TcbStatus | str] = DEFAULT_TCB_STATUSES,
        accepted_advisories: Iterable[str] | None = None,
        rejected_advisories: Iterable[str] = (),
        identities: Iterable[Identity] | None = None,
        platforms: Iterable[bytes | str] | None = None,
        min_tcb_evaluation_number: int | None = None,
        platform_grace_period: timedelta = timedelta(0),
        qe_grace_period: timedelta = timedelta(0),
        max_collateral_age: timedelta | None = None,
        clock_leeway: timedelta = timedelta(0),
    ) -> None:
        values = {
            "mr_enclave": binary("the policy's mr_enclave", mr_enclave, MEASUREMENT_SIZE),
            "mr_signer": binary("the policy's mr_signer", mr_signer, MEASUREMENT_SIZE),
            "isv_prod_id": number("the policy's isv_prod_id", isv_prod_id, MAX_UINT16),
            "min_isv_svn": number("the policy's min_isv_svn", min_isv_svn, MAX_UINT16),
            "report_data": binary("the policy's report_data", report_data, REPORT_DATA_SIZE),
            "config_id": binary("the policy's config_id", config_id, CONFIG_ID_SIZE),
            "min_config_svn": number("the policy's min_config_svn", min_config_svn, MAX_UINT16),
            "isv_ext_prod_id": binary("the policy's isv_ext_prod_id", isv_ext_prod_id, KSS_ID_SIZE),
            "isv_family_id": binary("the policy's isv_family_id", isv_family_id, KSS_ID_SIZE),
            "allow_simulated": boolean("the policy's allow_simulated", allow_simulated),
            "allow_debug": boolean("the policy's allow_debug", allow_debug),
            "accepted_tcb_statuses": frozenset(
                map(_tcb_status, _collection("accepted_tcb_statuses", accepted_tcb_statuses))
            ),
            "accepted_advisories": None
            if accepted_advisories is None
            else frozenset(map(advisory_id, _collection("accepted_advisories", accepted_advisories))),
            "rejected_advisories": frozenset(map(advisory_id, _collection("rejected_advisories", rejected_advisories))),
            "identities": None if identities is None else tuple(map(_identity, _collection("identities", identities))),
            "platforms": None
            if platforms is None
            else frozenset(map(platform_id, _collection("platforms", platforms))),
            "min_tcb_evaluation_number": number(
                "the policy's min_tcb_evaluation_number", min_tcb_evaluation_number, MAX_INTEGER
            ),
            "platform_grace_period": duration("the policy's platform_grace_period", platform_grace_period),
            "qe_grace_period": duration("the policy's qe_grace_period", qe_grace_period),
            "max_collateral_age": None
            if max_collateral_age is None
            else duration("the policy's max_collateral_age", max_collateral_age),
            "clock_leeway": argument_types.clock_leeway(clock_leeway),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def for_challenge(cls, challenge: bytes, **demands: Any) -> Self:  # noqa: ANN401 # the constructor's types
        """Return a policy that demands a challenge of 1 to 64 bytes as the enclave's report data.

        A challenge under 64 bytes is extended with zeros. `demands` are SgxPolicy's arguments except report_data.

        Raises:
            SettingsError: the challenge is empty or too long, or the constructor refuses another argument.
        """
        return cls(report_data=report_data(challenge), **demands)

    def for_report_data(self, report_data: bytes) -> Self:
        """Return a copy of this policy that demands these 64 bytes of report data."""
        return replace(self, report_data=report_data)

    @property
    def names_identity(self) -> bool:
        """Whether the policy sets `mr_enclave`, `mr_signer` or `identities`, even if `identities` is empty."""
        return any(value is not None for value in (self.mr_enclave, self.mr_signer, self.identities))


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


def _collection(name: str, values: Iterable[object]) -> tuple[object, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise WrongTypeError(f"the policy's {name}", "a set, list or tuple", values)
    return tuple(values)


def _identity(value: object) -> Identity:
    if not isinstance(value, Identity):
        raise WrongTypeError("an identity", "an Identity", value)
    return value


def platform_id(value: object) -> bytes:
    """Return what identifies a platform, bytes or hexadecimal text, as bytes."""
    data = binary("a platform", value, *PLATFORM_SIZES)
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
