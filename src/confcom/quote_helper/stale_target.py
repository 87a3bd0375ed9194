"""Which code a report gets that the quoting enclave does not accept."""

from __future__ import annotations

from collections.abc import Callable

from confcom.aesm.error_code import AesmErrorCode


class StaleTargetPolicy:
    """42 within a window from the instance's start, since target info may be that of the QE before; else 47.

    Args:
        window_seconds: how long after this object was made.
        clock: monotonic seconds.
    """

    def __init__(self, window_seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends = clock() + window_seconds

    def code_for_rejected_report(self) -> AesmErrorCode:
        """What to answer now."""
        if self._clock() < self._ends:
            return AesmErrorCode.ATT_KEY_NOT_INITIALIZED
        return AesmErrorCode.INVALID_REPORT
