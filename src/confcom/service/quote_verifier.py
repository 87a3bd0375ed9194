"""The verifier that a web service awaits: worker processes, a cache of collateral, and limits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Generic, Self

from confcom.collateral import CollateralCache, FetchError, Source
from confcom.errors import MalformedError, UnavailableError, WrongValueError
from confcom.quote_worker import Request, Setup
from confcom.service.workers import Workers
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.verify.argument_types import binary, number, require_instant
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.policy import Policy, require_policy
from confcom.verify.trust import INTEL, KnownRoot, TrustedRoot, trusted_root
from confcom.verify.verdict import TeeClaimsT_co, Verdict, VerdictKind, unusable
from confcom.verify.verifier import QuoteInput, bytes_of, verify_quote

VERIFY_SECONDS: Final = 5.0
"""Time limit of one verification, which takes about a millisecond: only input that hangs dcap-qvl reaches it."""
SOURCE_SECONDS: Final = 10.0
"""Time limit of a fetch, by default: peers and proxies hardly wait longer."""
DEFAULT_CALLERS: Final = 256
"""Callers that wait at most, by default: two workers serve them in under a second, and quotes take 16 MiB at most."""
MAX_CALLERS: Final = 1_000_000
MAX_PROCESSES: Final = 256
"""Greatest numbers of callers, and of workers, which take about 40 MB each. More is a mistake."""
_PRESENT: Final = partial(datetime.now, UTC)


class BusyError(UnavailableError):
    """As many callers wait for verdicts as the verifier allows."""

    error_code = "verifier-busy"


def _default_directory() -> Path:
    # XDG Base Directory Specification: a path that is not absolute counts as missing.
    for home in (Path(os.environ.get("XDG_CACHE_HOME", "")), Path(os.environ.get("HOME", ""), ".cache")):
        if home.is_absolute():
            return home / "confcom" / "collateral"
    why = "neither HOME nor XDG_CACHE_HOME is set"
    raise WrongValueError("the cache of collateral has no directory", why=why, remedy="pass `directory`")


class QuoteVerifier(Generic[TeeClaimsT_co]):
    """Verifies quotes in worker processes, and fetches their collateral, for programs with asyncio.

    `async with` starts and ends the workers, which also end when this process ends in any other way. A worker that ends
    alone is replaced, and its quote is tried once more. Collateral is fetched only for quotes whose own signatures
    hold and that are of the policy's TEE; a CollateralCache keeps and renews it.

    Args:
        policy: your demands on each quote: an SgxPolicy or a TdxPolicy. A quote of the other TEE fails the check `tee`,
            and no collateral is fetched for it; `tee_of_quote` says to which of two verifiers a quote belongs.
        source: the service from which collateral is fetched.
        directory: the directory of the cache, which several processes can share; None means `confcom/collateral` in
            $XDG_CACHE_HOME or ~/.cache.
        root: the root that you trust.
        processes: the number of workers, from 1 to 256. Each uses one core and about 40 MB.
        max_callers: the number of calls of `verify` that may wait at once.
        seconds: the time limit of a fetch. A call waits so long only while no collateral is at hand.
        clock: a function that returns the present time with a time zone.

    Raises:
        SettingsError: an argument has the wrong type or value.
    """

    def __init__(
        self,
        policy: Policy[TeeClaimsT_co],
        source: Source,
        *,
        directory: str | os.PathLike[str] | None = None,
        root: TrustedRoot | KnownRoot = INTEL,
        processes: int = 2,
        max_callers: int = DEFAULT_CALLERS,
        seconds: float = SOURCE_SECONDS,
        clock: Callable[[], datetime] = _PRESENT,
    ) -> None:
        require_policy(policy)
        if not policy.names_identity:
            raise WrongValueError("the policy names no enclave and no TD", remedy="name one, by mr_enclave or mr_td")
        if not number("the number of processes", processes, MAX_PROCESSES):
            raise WrongValueError("a verifier needs a worker", remedy="pass the number of cores that shall verify")
        if not number("the number of callers", max_callers, MAX_CALLERS):
            raise WrongValueError("a verifier without callers verifies nothing", remedy="pass at least one")
        self._policy, self._root = policy, trusted_root(root)
        self._workers = Workers(processes, Setup(policy, self._root, VERIFY_SECONDS))
        chosen = _default_directory() if directory is None else directory
        self._cache = CollateralCache(chosen, source, root=root, seconds=seconds, clock=clock)
        self._places, self._clock = asyncio.Semaphore(max_callers), clock

    async def __aenter__(self) -> Self:
        """Start the workers. Raises WorkerError if one cannot be started."""
        await self._workers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the workers. Calls that still wait raise WorkerError."""
        await self._workers.stop()

    async def verify(self, quote: QuoteInput, *, report_data: bytes | None = None) -> Verdict[TeeClaimsT_co]:
        """Return the verdict on a quote.

        The verdict is about the quote alone: a service answers 403 unless it is ok. What is not the quote's fault
        raises UnavailableError: a service answers 503. A quote that ends two workers is unusable (`verifier-ended`).

        Args:
            quote: as for `confcom.verify.verify`.
            report_data: the 64 bytes that the policy demands for this quote; None leaves the policy as it is.

        Raises:
            FetchError: there is no collateral for the quote's platform that verifies and is current.
            BusyError: as many calls wait as `max_callers` allows.
            WorkerError: the verifier does not run, or no worker can be started.
            SettingsError: an argument has the wrong type or size.
            UnreadableInputError: the quote is a path whose file cannot be read.
        """
        data = bytes_of(quote)
        wanted = binary("the report data", report_data, REPORT_DATA_SIZE)
        if self._places.locked():
            raise BusyError(
                "`max_callers` callers wait for verdicts already",
                why="quotes arrive faster than they are verified, or the source of collateral is slow",
                remedy="try again later; if there are more cores, raise `processes`",
            )
        async with self._places:
            return await self._verdict(data, wanted)

    async def _verdict(self, quote: bytes, report_data: bytes | None) -> Verdict[TeeClaimsT_co]:
        if len(quote) > MAX_QUOTE_SIZE:  # this verdict needs no worker
            return verify_quote(quote, self._root, None, self._policy, require_instant(self._clock()))
        verdict = await self._workers.run(Request(quote, report_data, require_instant(self._clock())))
        if verdict is None:
            # Only now, since the quote's own signatures hold, the source may be asked.
            try:
                kept = await self._cache.aget(quote)
            except MalformedError as error:
                return unusable("a PCK certificate that names its platform", error, code="format")
            now = require_instant(self._clock())
            verdict = await self._workers.run(Request(quote, report_data, now, kept.collateral))
            assert verdict is not None
        # A quote of another TEE is refused without collateral, which is no fault of the source.
        faults = [one for one in verdict.failures if one.consequence is VerdictKind.UNUSABLE or one.code == "tee"]
        if verdict.kind is VerdictKind.UNUSABLE and all(one.code.startswith("collateral") for one in faults):
            raise FetchError(
                "the collateral at hand cannot be used",
                error_code=faults[0].code,
                why=f"required: {faults[0].required}; found: {faults[0].found}",
                remedy="check this machine's clock, and the source of collateral",
            )
        return verdict
