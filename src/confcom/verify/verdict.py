"""What a verification comes to: each check with what was required, found and why, and one kind for the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn, Self

from confcom.errors import ConfcomError, ExitCode, printable
from confcom.sgx.report import ReportBody
from confcom.verify.trust import Platform


class VerdictKind(Enum):
    """The four outcomes that a relying party must tell apart."""

    VERIFIED = "verified"
    """Authentic, and everything that the policy asks for holds."""
    AUTHENTIC_NOT_AUTHORISED = "authentic-not-authorised"
    """The signatures hold up to the root, but the policy wants something else, or names nothing to compare with."""
    NOT_AUTHENTIC = "not-authentic"
    """A signature, a certificate, a revocation list or a mark says that this is not what it claims to be."""
    UNUSABLE = "unusable"
    """Nothing could be decided: not a quote, or collateral that is malformed, expired or for another platform."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code by which scripts tell the kinds apart."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    VerdictKind.VERIFIED: ExitCode.OK,
    VerdictKind.AUTHENTIC_NOT_AUTHORISED: ExitCode.NOT_AUTHORISED,
    VerdictKind.NOT_AUTHENTIC: ExitCode.NOT_AUTHENTIC,
    VerdictKind.UNUSABLE: ExitCode.UNUSABLE,
}

_SEVERITY = (VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE, VerdictKind.AUTHENTIC_NOT_AUTHORISED)
"""Proof that a quote is false outweighs what could not be decided, and both outweigh the policy."""


class CheckStatus(Enum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not-checked"
    """The check needs something that an earlier failure took away, or that the policy does not ask for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `required`, `found` and `why` are for people and are never parsed.

    They may repeat what stands in a hostile quote; `passed`, `failed` and `not_checked` make them `printable`.
    `consequence` is what the verdict becomes when this check failed; it is None otherwise.
    """

    name: str
    status: CheckStatus
    required: str
    found: str
    why: str = ""
    consequence: VerdictKind | None = None

    def to_json(self) -> dict[str, str]:
        """Plain values for `json.dumps`."""
        return {
            "name": self.name,
            "status": self.status.value,
            "required": self.required,
            "found": self.found,
            "why": self.why,
        }


def passed(name: str, required: str, found: str, why: str = "") -> Check:
    """A check that holds."""
    return Check(name, CheckStatus.PASSED, printable(required), printable(found), printable(why))


def failed(name: str, required: str, found: str, why: str, consequence: VerdictKind) -> Check:
    """A check that does not hold, and what follows from that."""
    return Check(name, CheckStatus.FAILED, printable(required), printable(found), printable(why), consequence)


def not_checked(name: str, required: str, why: str) -> Check:
    """A check that was not made, with the reason: silence would read as a pass."""
    return Check(name, CheckStatus.NOT_CHECKED, printable(required), "", printable(why))


def failed_by(name: str, required: str, error: ConfcomError) -> Check:
    """A check that an error ended: nothing could be decided; what to do is part of the reason."""
    why = ". ".join(part for part in (error.why, error.remedy) if part)
    return failed(name, required, error.what, why, VerdictKind.UNUSABLE)


@dataclass(frozen=True, slots=True)
class Claims:
    """What the quote says of its enclave. Worth something only if the verdict's kind says that it is authentic.

    mr_enclave and mr_signer are 32 bytes, report_data and config_id 64, isv_ext_prod_id and isv_family_id 16. The last
    four fields are zero in enclaves without Key Separation and Sharing.
    """

    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes
    debug: bool
    config_id: bytes
    config_svn: int
    isv_ext_prod_id: bytes
    isv_family_id: bytes

    @classmethod
    def of(cls, body: ReportBody) -> Self:
        """Take them out of the report body that the quote carries."""
        return cls(
            mr_enclave=body.mr_enclave,
            mr_signer=body.mr_signer,
            isv_prod_id=body.isv_prod_id,
            isv_svn=body.isv_svn,
            report_data=body.report_data,
            debug=body.debug,
            config_id=body.config_id,
            config_svn=body.config_svn,
            isv_ext_prod_id=body.isv_ext_prod_id,
            isv_family_id=body.isv_family_id,
        )

    def to_json(self) -> dict[str, object]:
        """Plain values for `json.dumps`; bytes as hex."""
        return {
            "mr_enclave": self.mr_enclave.hex(),
            "mr_signer": self.mr_signer.hex(),
            "isv_prod_id": self.isv_prod_id,
            "isv_svn": self.isv_svn,
            "report_data": self.report_data.hex(),
            "debug": self.debug,
            "config_id": self.config_id.hex(),
            "config_svn": self.config_svn,
            "isv_ext_prod_id": self.isv_ext_prod_id.hex(),
            "isv_family_id": self.isv_family_id.hex(),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome. Check `ok`; `kind` and `checks` say why."""

    kind: VerdictKind
    platform: Platform
    checks: tuple[Check, ...]
    claims: Claims | None = None
    tcb_status: str | None = None
    advisory_ids: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    """Marks of simulation that the quote and its certificates carry."""

    @property
    def ok(self) -> bool:
        """Whether to rely on the quote: false for a simulated one unless the policy itself asks for simulated."""
        return self.kind is VerdictKind.VERIFIED

    def __bool__(self) -> NoReturn:
        """Raise: whether a verdict is true would be read as whether the quote is good.

        Raises:
            AmbiguousVerdictError: always.
        """
        raise AmbiguousVerdictError

    def require_ok(self) -> Claims:
        """Go on only with a quote that may be relied on.

        Returns:
            What the quote says of its enclave.

        Raises:
            NotVerifiedError: the quote may not be relied on; it names the checks that failed.
        """
        if not self.ok or self.claims is None:
            raise NotVerifiedError(self)
        return self.claims

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if check.status is CheckStatus.FAILED)

    def to_json(self) -> dict[str, object]:
        """Plain values for `json.dumps`; the format of `confcom verify --output json`."""
        return {
            "ok": self.ok,
            "kind": self.kind.value,
            "platform": self.platform.value,
            "tcb_status": self.tcb_status,
            "advisory_ids": list(self.advisory_ids),
            "marks": list(self.marks),
            "claims": self.claims.to_json() if self.claims else None,
            "checks": [check.to_json() for check in self.checks],
        }


class AmbiguousVerdictError(ConfcomError, TypeError):
    """A verdict was used as a condition."""

    def __init__(self) -> None:
        super().__init__(
            "a verdict is neither true nor false",
            why="it has four kinds, and `if verdict:` would be read as whether the quote is good",
            remedy="ask `verdict.ok`, or call `verdict.require_ok()`",
        )


class NotVerifiedError(ConfcomError):
    """A quote may not be relied on.

    Args:
        verdict: says why.
    """

    def __init__(self, verdict: Verdict) -> None:
        failures = verdict.failures
        super().__init__(
            f"the quote is {verdict.kind.value.replace('-', ' ')}",
            why="; ".join(f"{check.name}: {check.why or check.found}" for check in failures),
            remedy="look at the verdict's checks: each says what was required and what was found",
        )
        self.verdict = verdict
        self.exit_code = verdict.kind.exit_code


def kind_of(checks: Iterable[Check]) -> VerdictKind:
    """The kind that a set of checks comes to: the gravest consequence, or verified if none failed."""
    consequences = {check.consequence for check in checks}
    return next((kind for kind in _SEVERITY if kind in consequences), VerdictKind.VERIFIED)


def unusable(name: str, required: str, error: ConfcomError) -> Verdict:
    """The verdict of one failed check, for input that could not even be read."""
    return Verdict(VerdictKind.UNUSABLE, Platform.UNKNOWN, (failed_by(name, required, error),))
