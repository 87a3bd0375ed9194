"""The verifier that a web service awaits: worker processes, a cache of collateral, and limits."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from confcom.collateral import CollateralCache, FetchError, Source
from confcom.errors import WrongTypeError, WrongValueError
from confcom.quote_worker import Answer, Request, Setup
from confcom.service.workers import BusyError, WorkerError, Workers
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.verify.argument_types import binary, number, time_limit
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.policy import Policy
from confcom.verify.trust import INTEL, KnownRoot, TrustedRoot, trusted_root
from confcom.verify.verdict import Verdict
from confcom.verify.verifier import QuoteInput, bytes_of, verify_quote

VERIFY_SECONDS: Final = 5.0
"""Time limit of one verification, which takes about a millisecond: only input that hangs dcap-qvl reaches it."""
SOURCE_SECONDS: Final = 10.0
"""Time limit of the source's answer, without collateral at hand: peers and proxies wait hardly longer."""
DEFAULT_CALLERS: Final = 256
"""Callers that wait at most, by default: two workers serve them in under a second, and quotes take 16 MiB at most."""
MAX_CALLERS: Final = 1_000_000
"""Greatest bound of callers; more is a mistake."""
MAX_PROCESSES: Final = 256
"""Greatest number of workers: more than the cores of most machines; each worker takes about 40 MB."""


def _present() -> datetime:
    return datetime.now(UTC)


class QuoteVerifier:
    """Verifies quotes in worker processes of its own, and fetches their collateral, for one event loop of asyncio.

    `async with` starts and ends the workers, which also end with this process, however it ends. A worker that ends
    alone is replaced, and its quote is tried once more. Collateral is fetched only for quotes whose own signatures hold,
    and is kept and renewed as `confcom.collateral.CollateralCache` does.

    Args:
        policy: your demands on each quote.
        source: the service from which collateral is fetched.
        directory: the directory of the cache of collateral; several processes can share it.
        root: the root that you trust.
        processes: the number of workers, 1 to 256: as many as cores that verify.
        max_callers: how many callers of `verify` may wait at once.
        seconds: the time limit of a fetch; and so of callers, while no collateral is at hand.
        clock: a function that returns the present time with a time zone.

    Raises:
        SettingsError: an argument has the wrong type or value.
    """

    def __init__(
        self,
        policy: Policy,
        source: Source,
        *,
        directory: str | os.PathLike[str],
        root: TrustedRoot | KnownRoot = INTEL,
        processes: int = 2,
        max_callers: int = DEFAULT_CALLERS,
        seconds: float = SOURCE_SECONDS,
        clock: Callable[[], datetime] = _present,
    ) -> None:
        if not isinstance(policy, Policy):
            raise WrongTypeError("the policy", "a Policy", policy)
        number("the number of processes", processes, MAX_PROCESSES)
        number("the number of callers", max_callers, MAX_CALLERS)
        if not processes or not max_callers:
            raise WrongValueError("a verifier needs a process and a caller", remedy="pass at least one")
        self._policy, self._root = policy, trusted_root(root)
        self._cache = CollateralCache(directory, source, root=root, seconds=time_limit(seconds), clock=clock)
        self._processes, self._max_callers = processes, max_callers
        self._clock = clock
        self._workers: Workers | None = None
        self._callers = 0

    async def __aenter__(self) -> Self:
        """Start the workers. Raises WorkerError if one cannot be started."""
        if self._workers is not None:
            raise WrongValueError("the verifier runs already", remedy="make one for each `async with`")
        workers = Workers(self._processes, Setup(self._policy, self._root, VERIFY_SECONDS))
        try:
            await workers.start()
        except BaseException:
            await workers.stop()
            raise
        self._workers = workers
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers; callers that still wait get a WorkerError."""
        workers, self._workers = self._workers, None
        if workers is not None:
            await workers.stop()

    async def verify(self, quote: QuoteInput, *, report_data: bytes | None = None) -> Verdict:
        """Return the verdict on a quote. No content of a quote raises an error: an error is never the quote's fault.

        A quote that ends two workers, by a crash or by exceeding its time limit, is unusable (`verifier-ended`).

        Args:
            quote: as for `confcom.verify.verify`.
            report_data: the 64 bytes that the policy shall demand for this quote; None leaves the policy as it is.

        Raises:
            FetchError: there is no collateral for the quote's platform that verifies: a service answers 503.
            BusyError: too many callers wait: a service answers 503.
            WorkerError: no worker can be started, or the verifier does not run: a service answers 503.
            SettingsError: an argument has the wrong type or size.
            UnreadableInputError: the quote is a path whose file cannot be read.
        """
        data = bytes_of(quote)
        wanted = binary("the report data", report_data, REPORT_DATA_SIZE)
        if self._workers is None:
            raise WorkerError("the verifier does not run", remedy="call it inside of its `async with` block")
        if self._callers >= self._max_callers:
            raise BusyError(
                f"{self._callers} callers wait for verdicts",
                why="quotes arrive faster than they are verified, or the source of collateral is slow",
                remedy="try again later; give the verifier more processes, if there are more cores",
            )
        self._callers += 1
        try:
            return await self._verdict(data, wanted, self._workers)
        finally:
            self._callers -= 1

    async def _verdict(self, quote: bytes, report_data: bytes | None, workers: Workers) -> Verdict:
        if len(quote) > MAX_QUOTE_SIZE:  # the verdict needs no worker
            return verify_quote(quote, self._root, None, self._policy, self._clock())
        answer: Answer = await workers.run(Request(quote, report_data, self._clock()))
        if answer is None:
            # The quote's own signatures hold.
            kept = await self._cache.aget(quote)
            answer = await workers.run(Request(quote, report_data, self._clock(), kept.collateral))
        if isinstance(answer, Verdict):
            return answer
        raise FetchError(
            "the collateral at hand cannot be used",
            error_code=answer.error_code if answer else "",
            why=answer.why if answer else "",
            remedy="check the clock, the root and the source of collateral",
        )
