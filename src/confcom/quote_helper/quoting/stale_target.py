"""The error code for a report that the quoting enclave rejects."""

from collections.abc import Callable
from typing import Final

from confcom.aesm.error_code import AesmErrorCode

DEFAULT_STALE_REPORT_WINDOW_SECONDS: Final = 7 * 24 * 3600
"""A Gramine enclave gets the TargetInfo once, at its start, for all its reports; only error 42 makes Gramine get the
TargetInfo again, and 47 is final. So the window must be longer than the time between two quotes of a long-lived
enclave, and attestation certificates are renewed daily to weekly. A longer window costs little: a report that is
really wrong gets the less exact code 42, and Gramine tries five times more before it gives up."""

MAX_STALE_REPORT_WINDOW_SECONDS: Final = 366 * 24 * 3600
"""Maximum of the stale report window: a year. A longer value probably has a wrong unit."""


class StaleTargetPolicy:
    """Chooses error 42 during a window in which clients may have an old quoting enclave's TargetInfo; else error 47.

    The window opens when this instance begins to quote, when its quoting enclave changes, and when it takes
    the socket's path, since the earlier server of the path may have had another quoting enclave.
    """

    def __init__(self, window_seconds: float, clock: Callable[[], float]) -> None:
        self._window_seconds = window_seconds
        self._clock = clock
        self._target_info: bytes | None = None
        self._ends = clock() + window_seconds

    def quotes_for(self, target_info: bytes) -> None:
        if target_info != self._target_info:
            self._target_info = target_info
            self.open_window()

    def open_window(self) -> None:
        self._ends = self._clock() + self._window_seconds

    def code_for_rejected_report(self) -> AesmErrorCode:
        if self._clock() < self._ends:
            return AesmErrorCode.ATT_KEY_NOT_INITIALIZED
        return AesmErrorCode.INVALID_REPORT
