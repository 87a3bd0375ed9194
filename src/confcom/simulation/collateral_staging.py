"""Stagings of collateral: what Intel may say of a platform some day, said of the simulated one, to rehearse it."""

from enum import StrEnum, unique

FIRST_NUMBER = 1
RECOVERY_NUMBER = 2
"""TCB evaluation data numbers. Intel's counts TCB recoveries; a simulated platform has at most the one that
is staged, and each staging that changes the platform's status is one."""


@unique
class Staging(StrEnum):
    """What collateral says of the simulated platform. Root, certificates, seed and quotes are the same in each."""

    NONE = "none"
    """The platform is UpToDate."""
    OUT_OF_DATE = "out-of-date"
    """A TCB recovery is in force: there is a newer TCB level, and the platform's own is OutOfDate."""
    CONFIGURATION_NEEDED = "configuration-needed"
    SW_HARDENING_NEEDED = "sw-hardening-needed"
    REVOKED = "revoked"
    """The platform's TCB level is revoked; its certificates are not."""
    EARLY = "early"
    """A TCB recovery is announced: the early set is as in OUT_OF_DATE, the standard set is as before."""
    EXPIRED = "expired"
    """Each part was current once: every date lies in the past."""

    def number(self, *, early: bool) -> int:
        """Return the TCB evaluation data number of the early or the standard set."""
        unchanged = self in {Staging.NONE, Staging.EXPIRED} or (self is Staging.EARLY and not early)
        return FIRST_NUMBER if unchanged else RECOVERY_NUMBER

    @property
    def numbers(self) -> tuple[int, ...]:
        """Those of all sets, the newest first: the early set's."""
        return tuple(sorted({self.number(early=True), self.number(early=False)}, reverse=True))
