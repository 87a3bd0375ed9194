"""Which code a report gets that the quoting enclave does not accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from confcom.aesm.error_code import AesmErrorCode

DEFAULT_STALE_REPORT_WINDOW_SECONDS: Final = 7 * 24 * 3600
"""A Gramine enclave asks for target info once, at its start, and makes every report for it as long as it lives; only 42
makes it ask again, and 47 is final. So the window must outlast the time between two quotes of a long-lived enclave, and
certificates that attest are renewed daily to weekly. What a longer window costs is small: a report that is really wrong
gets the less exact code, and Gramine tries it five times more before it gives up."""

MAX_STALE_REPORT_WINDOW_SECONDS: Final = 366 * 24 * 3600
"""A year; longer is a mistake in the unit."""


class StaleTargetPolicy:
    """42 within a window after the quoting enclave may have changed, since clients keep its target info; else 47.

    The window opens when this instance begins to quote, again when its quoting enclave changes, and when it takes the
    path after one that quoted by another, or of which that is not known: a newer version was rolled back, or died.
    An instance that takes over from a live one with the same target info has changed nothing, and closes it.

    Args:
        window_seconds: how long it stays open.
        clock: monotonic seconds.
    """

    def __init__(self, window_seconds: float, clock: Callable[[], float]) -> None:
        self._window_seconds = window_seconds
        self._clock = clock
        self._target_info: bytes | None = None
        self._ends = clock() + window_seconds

    def quotes_for(self, target_info: bytes) -> None:
        """This is the quoting enclave now; one that was not the one before opens the window.

        Args:
            target_info: 512 bytes, as InitQuoteEx gives them to clients.
        """
        if target_info != self._target_info:
            self._target_info = target_info
            self._ends = self._clock() + self._window_seconds

    def took_over_from(self, target_info: bytes) -> None:
        """Another instance gave clients this target info until now.

        Args:
            target_info: 512 bytes, as its InitQuoteEx gave them; empty if they are not known.
        """
        changed = target_info != self._target_info
        self._ends = self._clock() + (self._window_seconds if changed else 0.0)

    def code_for_rejected_report(self) -> AesmErrorCode:
        """What to answer now."""
        if self._clock() < self._ends:
            return AesmErrorCode.ATT_KEY_NOT_INITIALIZED
        return AesmErrorCode.INVALID_REPORT
