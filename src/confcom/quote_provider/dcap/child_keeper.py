"""Keeps one child process with Intel's libraries: starts it when it is needed, and ends it when it must not go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.dcap.child_process import ChildProcess
from confcom.quote_provider.dcap.error_codes import Quote3Error, ends_child, refusal
from confcom.quote_provider.dcap.frames import Answer, Request

_logger = logging.getLogger(__name__)

RESTART_PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a child is replaced that had to end, by how many had to before; the last one repeats. The first
replacement is made at once, since one failure is usually the last. A client that makes the libraries fail on purpose
costs the node a start every 5 s, and the others' calls wait no longer than that: Intel's client gives up after 15 s."""
SETTLED_SECONDS: Final = 60.0
"""A child that lasted so long ends the count: it has passed six self-tests."""


class ChildKeeper:
    """Makes calls by a child process. All but `interrupt` is called by one thread at a time.

    Args:
        start: starts a child.
        clock: monotonic seconds.
        pauses: before restarts.
    """

    def __init__(
        self,
        start: Callable[[], ChildProcess],
        *,
        clock: Callable[[], float],
        pauses: Sequence[float] = RESTART_PAUSES,
    ) -> None:
        self._start = start
        self._clock = clock
        self._pauses = pauses
        self._child: ChildProcess | None = None
        self._started = 0.0
        self._ended = 0
        """Children that had to end, since one settled."""
        self._next_start = float("-inf")
        self._closed = threading.Event()

    def prepare(self) -> ChildProcess:
        """Return the child; start one if there is none, after the pause that is due.

        Raises:
            QuoteProviderError: it cannot be started.
        """
        child = self._child
        if child is not None and child.ending:
            self._end_unasked(child)
            child = None
        if child is not None:
            return child
        if self._closed.wait(max(0.0, self._next_start - self._clock())):
            raise _stopping()
        self._started = self._clock()
        try:
            child = self._child = self._start()
        except QuoteProviderError:
            self._count_end()
            raise
        if self._closed.is_set():
            self._end(child)
            raise _stopping()
        return child

    def call(self, request: Request, deadline: float) -> Answer:
        """Make one call.

        Args:
            request: the call.
            deadline: when it counts as hung, in seconds of the clock.

        Raises:
            QuoteProviderError: the library refused it, or the child is lost. Then the next call has another child.
        """
        child = self.prepare()
        answer = self._ask(child, request, deadline)
        if answer is None:
            self._end_unasked(child)
            child = self.prepare()
            answer = self._ask(child, request, deadline)
        if answer is None:
            error = child.crashed("before it read a request")
            self._end(child)
            raise error
        if answer.status != Quote3Error.SUCCESS:
            refused = refusal(request.call, answer.status)
            if ends_child(request.call, answer.status):
                _logger.warning(
                    "the child process with Intel's DCAP libraries is replaced", extra={"error": str(refused)}
                )
                self._end(child)
            raise refused
        return answer

    def interrupt(self) -> None:
        """Kill the child, also during a call, and start none any more. May be called by any thread."""
        self._closed.set()
        if (child := self._child) is not None:
            child.interrupt()

    def close(self) -> None:
        """End the child, and start none any more."""
        self._closed.set()
        if self._child is not None:
            self._end(self._child)

    def _ask(self, child: ChildProcess, request: Request, deadline: float) -> Answer | None:
        try:
            return child.ask(request, deadline)
        except QuoteProviderError as error:
            self._end(child)
            if self._closed.is_set():
                raise _stopping() from error
            _logger.error("the child process with Intel's DCAP libraries was lost", extra={"error": str(error)})  # noqa: TRY400 # a traceback tells nothing
            raise

    def _end_unasked(self, child: ChildProcess) -> None:
        _logger.error(
            "the child process with Intel's DCAP libraries ended between calls",
            extra={"child": child.pid, "error": child.wait_for_ending()},
        )
        self._end(child)

    def _end(self, child: ChildProcess) -> None:
        self._child = None
        self._count_end()
        child.kill()

    def _count_end(self) -> None:
        now = self._clock()
        if now - self._started >= SETTLED_SECONDS:
            self._ended = 0
        self._next_start = now + self._pauses[min(self._ended, len(self._pauses) - 1)]
        self._ended += 1


def _stopping() -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.SERVICE_UNAVAILABLE, "the quote helper is stopping", error_code="dcap-stopping", lost=True
    )
