"""A daemon's log lines about its own readiness, which `confcom status` shows to administrators.

These lines have a field that no other line has, so that lines caused by clients are not mistaken for the
reason why a daemon is not ready.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

_logger = logging.getLogger(__name__)

ABOUT, READINESS = "about", "readiness"
"""The extra field of these log lines, and its value; `confcom.addon.daemon_pods` looks for both."""
REPEAT_SECONDS = 30.0
"""Interval at which the reason is logged again while a daemon is not ready, so that the end of its log has
the reason even if clients have caused many lines since."""


@dataclass(frozen=True, slots=True)
class NotReady:
    reason: str
    code: str
    """Stable, for programs; `docs/reference/codes.md` lists all."""
    expected: bool = False
    """Whether this state occurs in every update; if so, its log line is not a warning."""


class ReadinessLog:
    """A log of why a daemon is not ready: a line for each new reason, and every REPEAT_SECONDS the same line again.

    `first` is the reason during the daemon's start. This reason is first logged after REPEAT_SECONDS.
    """

    def __init__(self, first: str | None, clock: Callable[[], float]) -> None:
        self.reason = first
        self._code = ""
        self._expected = False
        self._clock = clock
        self._logged_at = clock()

    def tell(self, reason: str | None, *, code: str = "", expected: bool = False) -> str | None:
        """Log that the daemon is ready, or why it is not, but repeat no recent line. Return the reason."""
        now = self._clock()
        if reason == self.reason and (reason is None or now - self._logged_at < REPEAT_SECONDS):
            return reason
        self.reason, self._code, self._expected, self._logged_at = reason, code, expected, now
        if reason is None:
            _logger.info("ready", extra={ABOUT: READINESS})
        else:
            level = logging.INFO if expected else logging.WARNING
            fields = {ABOUT: READINESS, "reason": reason} | ({"code": code} if code else {})
            _logger.log(level, "not ready", extra=fields)
        return reason

    async def repeat(self) -> None:
        """Log the last reason again every REPEAT_SECONDS, until cancelled."""
        while True:
            left = self._logged_at + REPEAT_SECONDS - self._clock()
            await asyncio.sleep(left if left > 0 else REPEAT_SECONDS)
            self.tell(self.reason, code=self._code, expected=self._expected)
