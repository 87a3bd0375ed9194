"""The findings of the checks before a change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from confcom.errors import ConfcomError, ExitCode


class Check(StrEnum):
    """The checks, in the order in which they are reported."""

    HELM = "helm"
    API_SERVER = "API server"
    KUBERNETES = "Kubernetes version"
    VALUES = "chart and values"
    PERMISSIONS = "permissions"
    INSTALLATION = "installation"
    POD_SECURITY = "Pod Security"
    OWNERS = "resource names"
    SIMULATION = "simulation"
    NODES = "SGX nodes"


class Outcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"
    """The check depends on something that another check did not find."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check; like an error, it says what, why, and what to do, and has a stable code."""

    check: Check
    outcome: Outcome
    what: str
    why: str = ""
    remedy: str = ""
    exit_code: ExitCode = ExitCode.REFUSED
    code: str = field(kw_only=True)
    """Names the cause, for programs; also of an outcome that is ok or skipped."""

    @classmethod
    def ok(cls, check: Check, what: str, *, code: str) -> Finding:
        """Create the finding of a check that found nothing wrong."""
        return cls(check, Outcome.OK, what, code=code)

    @classmethod
    def warning(cls, check: Check, what: str, *, code: str, why: str, remedy: str = "") -> Finding:
        """Create a finding that does not forbid the change."""
        return cls(check, Outcome.WARNING, what, why, remedy, code=code)

    @classmethod
    def failed(cls, check: Check, what: str, *, code: str, why: str = "", remedy: str = "") -> Finding:
        """Create a finding that forbids the change."""
        return cls(check, Outcome.FAILED, what, why, remedy, code=code)

    @classmethod
    def of(cls, check: Check, error: ConfcomError) -> Finding:
        """Create the finding of a check that ended in an error; it has the error's code."""
        code = error.error_code
        return cls(check, Outcome.FAILED, error.what, error.why, error.remedy, error.exit_code, code=code)

    def to_json(self) -> dict[str, str]:
        """Return the object for `--output json`."""
        return {
            "check": self.check,
            "outcome": self.outcome.lower(),
            "code": self.code,
            "what": self.what,
            "why": self.why,
            "do": self.remedy,
        }


class PreflightError(ConfcomError):
    """A check before the change failed, and nothing was changed; the findings were reported before."""

    error_code = "preflight-failed"
    exit_code = ExitCode.REFUSED

    def __init__(self, findings: Sequence[Finding]) -> None:
        failed = [one for one in findings if one.outcome is Outcome.FAILED]
        names = ", ".join(dict.fromkeys(str(one.check) for one in failed))
        super().__init__("nothing was changed", why=f"these checks failed: {names}", remedy="see above, then try again")
        self.findings = tuple(findings)
        self.exit_code = failed[0].exit_code if failed else ExitCode.REFUSED

    @property
    def details(self) -> dict[str, object]:
        """The findings, for JSON."""
        return {"findings": [one.to_json() for one in self.findings]}


def failed(findings: Sequence[Finding]) -> bool:
    """Return whether any finding forbids the change."""
    return any(one.outcome is Outcome.FAILED for one in findings)
