"""Stagings of collateral: what Intel may say of a platform some day, said of the simulated one, to rehearse it."""

from enum import StrEnum, unique

FIRST_NUMBER = 1
RECOVERY_NUMBER = 2
"""TCB evaluation data numbers. Intel's counts TCB recoveries; a simulated platform has at most the one that is staged,
and each staging that changes the platform's status is one."""


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

    @property
    def standard_number(self) -> int:
        """The TCB evaluation data number of the standard set."""
        unchanged = self in {Staging.NONE, Staging.EARLY, Staging.EXPIRED}
        return FIRST_NUMBER if unchanged else RECOVERY_NUMBER

    @property
    def early_number(self) -> int:
        """That of the early set, which is the newest."""
        return RECOVERY_NUMBER if self is Staging.EARLY else self.standard_number

    @property
    def numbers(self) -> tuple[int, ...]:
        """Those of all sets, the newest first."""
        return tuple(sorted({self.early_number, self.standard_number}, reverse=True))
