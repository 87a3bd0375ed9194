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

    `first` is the problem during the daemon's start. Its reason is first logged after REPEAT_SECONDS.
    """

    def __init__(self, first: NotReady, clock: Callable[[], float]) -> None:
        self.problem: NotReady | None = first
        self._clock = clock
        self._logged_at = clock()

    def tell(self, problem: NotReady | None) -> NotReady | None:
        """Log that the daemon is ready, or why it is not, but repeat no recent line. Return the problem."""
        now = self._clock()
        if problem == self.problem and (problem is None or now - self._logged_at < REPEAT_SECONDS):
            return problem
        self.problem, self._logged_at = problem, now
        if problem is None:
            _logger.info("ready", extra={ABOUT: READINESS})
        else:
            level = logging.INFO if problem.expected else logging.WARNING
            fields = {ABOUT: READINESS, "reason": problem.reason, "code": problem.code}
            _logger.log(level, "not ready", extra=fields)
        return problem

    async def repeat(self) -> None:
        """Log the last reason again every REPEAT_SECONDS, until cancelled."""
        while True:
            left = self._logged_at + REPEAT_SECONDS - self._clock()
            await asyncio.sleep(left if left > 0 else REPEAT_SECONDS)
            self.tell(self.problem)
