"""Stagings of collateral, each of which rehearses a status that Intel may publish for a platform some day."""

from enum import StrEnum, unique

FIRST_NUMBER = 1
RECOVERY_NUMBER = 2
"""TCB evaluation data numbers. Intel's numbers count TCB recoveries. A simulated platform has at most one
recovery, the staged one: each staging that changes the platform's status is a recovery."""


@unique
class Staging(StrEnum):
    """Status of the simulated platform in its collateral; root, certificates, seed and quotes never depend on it."""

    NONE = "none"
    """The platform is UpToDate."""
    OUT_OF_DATE = "out-of-date"
    """A TCB recovery is in force: a newer TCB level exists, and the platform's own level is OutOfDate."""
    CONFIGURATION_NEEDED = "configuration-needed"
    SW_HARDENING_NEEDED = "sw-hardening-needed"
    RELAUNCH_ADVISED = "relaunch-advised"
    """A TCB recovery is in force that raises the TDX module alone: TDs that were launched before the module's last
    update should be launched again. SGX platforms stay UpToDate."""
    REVOKED = "revoked"
    """The platform's TCB level is revoked, but the platform's certificates are not."""
    EARLY = "early"
    """A TCB recovery is announced: the early set is as in OUT_OF_DATE, the standard set is as in NONE."""
    EXPIRED = "expired"
    """The collateral has expired: every date in it lies in the past."""

    def number(self, *, early: bool) -> int:
        """Return the TCB evaluation data number of the early or the standard set."""
        unchanged = self in {Staging.NONE, Staging.EXPIRED} or (self is Staging.EARLY and not early)
        return FIRST_NUMBER if unchanged else RECOVERY_NUMBER

    @property
    def numbers(self) -> tuple[int, ...]:
        """TCB evaluation data numbers of all sets. The early set's number, which is the newest, is first."""
        return tuple(sorted({self.number(early=True), self.number(early=False)}, reverse=True))
