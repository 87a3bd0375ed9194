"""The result of a verification: one kind of verdict, and a list of checks with requirements and findings."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, NoReturn, Self, TypeAlias, TypeVar

from confcom.errors import ConfcomError, ExitCode, WrongTypeError, printable
from confcom.sgx.report import ReportBody
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.td_report import TdReport10
from confcom.verify.trust import Platform


# The texts are cached because every verdict formats the same dates of root and collateral.
@functools.lru_cache(maxsize=64)
def utc_text(instant: datetime) -> str:
    """Return the instant as `YYYY-MM-DDTHH:MM:SSZ`, the form that collateral uses."""
    return instant.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


class VerdictKind(StrEnum):
    """The four outcomes that a relying party must tell apart."""

    VERIFIED = "verified"
    """The quote is authentic and meets every demand of the policy."""
    AUTHENTIC_NOT_AUTHORISED = "authentic-not-authorised"
    """The quote is authentic, but does not meet the policy, or the policy names no identity or report data."""
    NOT_AUTHENTIC = "not-authentic"
    """A signature, a certificate, a revocation list or a mark of simulation shows that the quote is false."""
    UNUSABLE = "unusable"
    """Nothing could be decided: the input is no quote, or collateral is malformed, expired or for another platform."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that ends with this kind of verdict."""
        return {
            VerdictKind.VERIFIED: ExitCode.OK,
            VerdictKind.AUTHENTIC_NOT_AUTHORISED: ExitCode.NOT_AUTHORISED,
            VerdictKind.NOT_AUTHENTIC: ExitCode.NOT_AUTHENTIC,
            VerdictKind.UNUSABLE: ExitCode.UNUSABLE,
        }[self]


_SEVERITY = (VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE, VerdictKind.AUTHENTIC_NOT_AUTHORISED)
"""Gravest kind first: proof of a false quote outweighs an undecided check, which outweighs the policy."""


class CheckStatus(StrEnum):
    """The outcome of one check."""

    PASSED = "passed"
    """The requirement holds."""
    FAILED = "failed"
    """The requirement does not hold."""
    NOT_CHECKED = "not-checked"
    """The check was skipped, because of an earlier failure or because nothing reports its value; `why` says which."""


# A verification makes sixteen checks, and making a frozen dataclass would take four times as long.
class Check(NamedTuple):
    """One check of a verdict: `code` is for programs; `required`, `found` and `why` are for people, and may change.

    `required`, `found` and `why` can contain text from a hostile quote, with unprintable characters escaped.
    """

    code: str
    """The stable code, such as `report-data`."""
    status: CheckStatus
    """Passed, failed or skipped."""
    required: str
    """The requirement, in words."""
    found: str
    """The value that was found, in words; empty if the check was skipped."""
    why: str = ""
    """The cause of a failure, or the reason for skipping."""
    consequence: VerdictKind | None = None
    """The kind of verdict that a failed check leads to; None for other checks."""

    @property
    def name(self) -> str:
        """The code with `_` in place of `-`, as in the names of the policies' arguments."""
        return self.code.replace("-", "_")

    def to_json(self) -> dict[str, str]:
        """Return plain values for `json.dumps`."""
        names = ("code", "name", "status", "required", "found", "why")
        return {name: str(getattr(self, name)) for name in names}


def passed(required: str, found: str, why: str = "", *, code: str) -> Check:
    if not (required + found + why).isprintable():
        required, found, why = printable(required), printable(found), printable(why)
    return Check(code, CheckStatus.PASSED, required, found, why)


def failed(required: str, found: str, why: str, consequence: VerdictKind, *, code: str) -> Check:
    return Check(code, CheckStatus.FAILED, printable(required), printable(found), printable(why), consequence)


def judged(required: str, found: str, why: str, consequence: VerdictKind, *, holds: bool, code: str) -> Check:
    return passed(required, found, code=code) if holds else failed(required, found, why, consequence, code=code)


def not_checked(required: str, why: str, *, code: str) -> Check:
    """Return a check that was skipped, with the reason; if it were omitted, readers could assume that it passed."""
    return Check(code, CheckStatus.NOT_CHECKED, printable(required), "", printable(why))


def failed_by(required: str, error: ConfcomError, *, code: str) -> Check:
    """Return a check that failed by an error, so the quote is unusable; `why` includes the error's remedy."""
    why = ". ".join(part for part in (error.why, error.remedy) if part)
    return failed(required, error.what, why, VerdictKind.UNUSABLE, code=code)


@dataclass(frozen=True, slots=True)
class _Claims:
    def to_json(self) -> dict[str, object]:
        """Return plain values for `json.dumps`, with bytes in hexadecimal."""
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class SgxClaims(_Claims):
    """A quote's claims about its enclave; they are trustworthy only if the verdict's kind says the quote is authentic.

    The fields are those of a report (Intel SDM vol. 3D, "REPORT"). The last four fields are zero in enclaves
    without Key Separation and Sharing.
    """

    mr_enclave: bytes
    """The measurement of the enclave's code and initial data, 32 bytes."""
    mr_signer: bytes
    """SHA-256 of the key that signed the enclave, 32 bytes."""
    isv_prod_id: int
    """The signer's number for the product, 0 to 65,535."""
    isv_svn: int
    """The product's security version number, 0 to 65,535."""
    report_data: bytes
    """The 64 bytes of report data that the enclave was asked to put into its report."""
    debug: bool
    """Whether the enclave is a debug enclave, whose memory the host can read and change."""
    config_id: bytes
    """CONFIGID, 64 bytes: the configuration that the enclave was started with."""
    config_svn: int
    """CONFIGSVN, 0 to 65,535: the configuration's security version number."""
    isv_ext_prod_id: bytes
    """ISVEXTPRODID, 16 bytes: the signer's longer number for the product."""
    isv_family_id: bytes
    """ISVFAMILYID, 16 bytes: the signer's number for a family of products."""

    @classmethod
    def of(cls, body: ReportBody) -> Self:
        return cls(*_CLAIMS(body))


_CLAIMS = attrgetter(*(field.name for field in fields(SgxClaims)))


@dataclass(frozen=True, slots=True)
class TdxClaims(_Claims):
    """A quote's claims about its TD; they are trustworthy only if the verdict's kind says the quote is authentic.

    The fields are those of a TD report. Attributes and XFAM are numbers of 8 bytes, the most significant byte first, as
    `confcom inspect` shows them. Fields are None if the quote's TD report is of a version without them.
    """

    tee_tcb_svn: bytes
    """TEE_TCB_SVN, 16 bytes: the SVNs of the TDX module that launched the TD."""
    mr_seam: bytes
    """MRSEAM, 48 bytes: the measurement of the TDX module."""
    mr_signer_seam: bytes
    """MRSIGNERSEAM, 48 bytes: the signer of the TDX module; zeros mean Intel."""
    seam_attributes: bytes
    """SEAMATTRIBUTES, 8 bytes."""
    td_attributes: bytes
    """TDATTRIBUTES, 8 bytes."""
    xfam: bytes
    """XFAM, 8 bytes: the extended features that the TD may use."""
    mr_td: bytes
    """MRTD, 48 bytes: the measurement of what the host put into the TD at its creation, usually the firmware."""
    mr_config_id: bytes
    """MRCONFIGID, 48 bytes: the configuration that the host gave to the TD."""
    mr_owner: bytes
    """MROWNER, 48 bytes: the owner that the host gave to the TD."""
    mr_owner_config: bytes
    """MROWNERCONFIG, 48 bytes: the owner's configuration that the host gave to the TD."""
    rtmr0: bytes
    """RTMR0, 48 bytes, which software in the TD extends, as it does the other three."""
    rtmr1: bytes
    """RTMR1, 48 bytes."""
    rtmr2: bytes
    """RTMR2, 48 bytes."""
    rtmr3: bytes
    """RTMR3, 48 bytes."""
    report_data: bytes
    """The 64 bytes of report data that the TD was asked to put into its report."""
    debug: bool
    """Whether the TD is debugged or profiled (any bit of TUD), so that the host can look into it."""
    tee_tcb_svn2: bytes | None = None
    """TEE_TCB_SVN2, 16 bytes: the SVNs of the TDX module that runs now."""
    mr_service_td: bytes | None = None
    """MRSERVICETD, 48 bytes: the hash of the service TDs that are bound to the TD; zeros mean none."""
    vmid: int | None = None
    """VMID, 0 to 3: which virtual machine of a partitioned TD asked for the report."""
    td_id: bytes | None = None
    """TD_ID, 32 bytes: another one after each launch."""
    dev_info: bytes | None = None
    """The hash of the TD's device information, 48 bytes."""
    init_service_td_hash: bytes | None = None
    """The hash of the service TDs that were bound at the TD's creation, 48 bytes."""
    init_service_td_attributes: bytes | None = None
    """The attributes of the service TD that was bound at the TD's creation, 8 bytes."""
    init_cpu_svn: bytes | None = None
    """CPUSVN at the TD's creation, 16 bytes."""
    init_tee_tcb_svn: bytes | None = None
    """TEE_TCB_SVN at the TD's creation, 16 bytes."""
    init_tee_fmspc: bytes | None = None
    """The kind of platform on which the TD was created, 12 bytes."""
    cur_service_td_hash: bytes | None = None
    """The hash of the service TDs that are bound now, 48 bytes."""
    cur_service_td_attributes: bytes | None = None
    """The attributes of the service TD that is bound now, 8 bytes."""

    @classmethod
    def of(cls, body: TdReport10) -> Self:
        values = {name: getattr(body, name) for name in _TDX_FIELDS if hasattr(body, name)}
        for name in _TDX_NUMBERS & values.keys():
            values[name] = values[name].to_bytes(8, "big")
        return cls(**values)


_TDX_FIELDS: Final = tuple(field.name for field in fields(TdxClaims))
_TDX_NUMBERS: Final = frozenset(
    {"seam_attributes", "td_attributes", "xfam", "init_service_td_attributes", "cur_service_td_attributes"}
)
RTMRS: Final = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")

TeeClaims: TypeAlias = SgxClaims | TdxClaims

if TYPE_CHECKING:
    import typing_extensions

    # Python itself knows `default` from 3.13 on; with it, type checkers read Verdict as Verdict[SgxClaims].
    ClaimsT_co = typing_extensions.TypeVar("ClaimsT_co", bound=TeeClaims, default=SgxClaims, covariant=True)
    TeeClaimsT_co = typing_extensions.TypeVar("TeeClaimsT_co", bound=TeeClaims, default=Any, covariant=True)
else:
    ClaimsT_co = TeeClaimsT_co = TypeVar("ClaimsT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Verdict(Generic[ClaimsT_co]):
    """The outcome of a verification. Use `ok` or `require_ok`; `kind` and `checks` give the reasons.

    The type is generic in its claims, which differ between kinds of TEE; `Verdict` alone is `Verdict[SgxClaims]`.
    A verdict is neither true nor false: `if verdict:` raises WrongTypeError. `str(verdict)` is one short line.
    """

    kind: VerdictKind
    """The outcome, in one of four kinds."""
    platform: Platform
    """The kind of platform that made the quote."""
    checks: tuple[Check, ...]
    """All checks, in order, including skipped ones."""
    claims: ClaimsT_co | None = None
    """The quote's claims about its enclave or TD; None unless the quote is authentic and of the policy's TEE."""
    tcb_status: TcbStatus | None = None
    """The TCB status, from the collateral; None unless the quote is authentic, or only its revoked TCB is wrong."""
    advisory_ids: tuple[str, ...] = ()
    """Intel's advisories that apply to the platform, such as `INTEL-SA-00334`."""
    marks: tuple[str, ...] = ()
    """Marks of simulation that the quote, its certificates and the collateral have."""

    @property
    def ok(self) -> bool:
        """Whether to rely on the quote. False for a simulated quote unless the policy allows simulated platforms."""
        return self.kind is VerdictKind.VERIFIED

    def __reduce__(self) -> tuple[object, ...]:
        # Plain tuples: pickling a verdict takes half as long as with a Check each, and a service pickles every verdict.
        checks = tuple(map(tuple, self.checks))
        return _unpickled, (self.kind, self.platform, checks, *(getattr(self, name) for name in _AFTER_CHECKS))

    def __bool__(self) -> NoReturn:
        """Raise an error, because `if verdict:` looks like a test whether the quote is good."""
        raise WrongTypeError("a condition", "`verdict.ok`", self)

    def __str__(self) -> str:
        """Return one short line: the kind of verdict, and the platform or the checks that failed."""
        if self.ok:
            return f"{self.kind} ({self.platform}, {self.tcb_status})"
        return f"{self.kind}: {', '.join(check.code for check in self.failures)}"

    def require_ok(self) -> ClaimsT_co:
        """Return the claims if the quote can be relied on.

        Raises:
            NotVerifiedError: the quote must not be relied on; the error's `verdict` is this verdict.
        """
        if not self.ok or self.claims is None:
            raise NotVerifiedError(self)
        return self.claims

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if check.status is CheckStatus.FAILED)

    def to_json(self) -> dict[str, object]:
        """Return plain values for `json.dumps`, in the format of `confcom verify --output json`."""
        return {
            "ok": self.ok,
            "kind": self.kind.value,
            "platform": self.platform.value,
            "tcb_status": self.tcb_status and self.tcb_status.value,
            "advisory_ids": list(self.advisory_ids),
            "marks": list(self.marks),
            "claims": self.claims.to_json() if self.claims else None,
            "checks": [check.to_json() for check in self.checks],
        }


_AFTER_CHECKS = tuple(field.name for field in fields(Verdict))[3:]


def _unpickled(kind: VerdictKind, platform: Platform, checks: Iterable[Iterable[Any]], *rest: Any) -> Verdict[Any]:  # noqa: ANN401 # the values of _AFTER_CHECKS
    return Verdict(kind, platform, tuple(map(Check._make, checks)), *rest)


class NotVerifiedError(ConfcomError):
    """A quote must not be relied on.

    `verdict` has the reasons, and the exit code follows from the verdict's kind.
    """

    error_code = "not-verified"

    def __init__(self, verdict: Verdict[Any]) -> None:
        failures = verdict.failures
        super().__init__(
            f"the quote is {verdict.kind.replace('-', ' ')}",
            why="; ".join(f"{check.name}: {check.why or check.found}" for check in failures),
            remedy="look at the verdict's checks: each says what was required and what was found",
        )
        self.verdict = verdict
        self.exit_code = verdict.kind.exit_code


def kind_of(checks: Iterable[Check]) -> VerdictKind:
    """Return the kind of verdict for a set of checks: the gravest consequence, or verified if none failed."""
    consequences = [check.consequence for check in checks if check.consequence is not None]
    return min(consequences, key=_SEVERITY.index) if consequences else VerdictKind.VERIFIED


def unusable(required: str, error: ConfcomError, *, code: str) -> Verdict[Any]:
    return Verdict(VerdictKind.UNUSABLE, Platform.UNKNOWN, (failed_by(required, error, code=code),))
