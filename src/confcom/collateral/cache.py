"""A cache of collateral on disk, for many processes, which keeps only what verifies."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from confcom.collateral.backoff import Backoff
from confcom.collateral.cache_directory import CacheDirectory, CachedSet
from confcom.collateral.detached_call import call_detached, run_apart
from confcom.collateral.fetch_errors import REVOKED, FetchError
from confcom.collateral.pcs_client import FETCH_SECONDS, difference, fetch_set, require_set
from confcom.collateral.source import Source
from confcom.errors import MalformedError, WrongTypeError
from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.quote import QuoteFrame
from confcom.verify.argument_types import path_argument, time_limit
from confcom.verify.prepared_collateral import (
    MAX_KNOWN_KEYS,
    MAX_KNOWN_PART,
    PCK_CAS,
    Collateral,
    PreparedCollateral,
    platform_kind,
)
from confcom.verify.trust import INTEL, KnownRoot, TrustedRoot, trusted_root
from confcom.verify.verifier import QuoteInput, bytes_of

LAST_DAYS: Final = timedelta(days=2)
"""Before this time of a set's validity no call waits for the source: two weeks of attempts are left, or two days."""
LAST_DAYS_WAIT_SECONDS: Final = 2.0
"""What a call waits in the last days: longer than a good source takes, shorter than a peer's patience."""
_FMSPC_SIZE: Final = 6


def _present() -> datetime:
    return datetime.now(UTC)


def _random() -> float:
    return random.random()  # noqa: S311 # it spreads attempts


@dataclass(frozen=True, slots=True)
class CachedCollateral:
    """Collateral that verified under the cache's root, and its age."""

    collateral: Collateral
    """The collateral of the quote's platform, which by the cache's clock has not expired."""
    prepared: PreparedCollateral
    """The same, prepared for `verify`; the same object for all calls until the set changes, or for an hour."""
    age: timedelta
    """Time since the oldest part was issued, the root's revocation list (issued yearly) excepted."""
    problem: str = ""
    """Why the renewal failed; empty if the renewal succeeded or was not due."""


class CollateralCache:
    """Keeps one source's collateral on disk for many processes, and renews it after half its validity period.

    Only what verifies under the root is kept; a stored set is used until it expires, or until its signer or CA is
    revoked. Files are treated as untrusted. While a set is valid for more than two days, no call waits for the source:
    one process of many renews the set, in a thread that never delays the end of the process. In the last two days,
    calls wait for 2 seconds. After a failure the source is asked again after pauses that double, up to an hour, or up
    to a minute while there is no set; a demand (Retry-After) of up to an hour is obeyed. Threads may share a cache, and
    it can be pickled.

    Args:
        directory: the cache's directory, created with mode 0700 if missing; its files have mode 0600. It must belong to
            this user, and others must not be able to write it.
        source: the service from which collateral is fetched.
        root: the root under which collateral must verify, and quotes will be verified.
        early: whether to fetch early sets, as for `fetch_collateral`.
        evaluation: the TCB evaluation data number of the sets to fetch.
        seconds: the time limit of one fetch.
        clock: a function that returns the present time with a time zone.
        jitter: a function that returns random numbers in [0, 1), which spread the attempts of many machines.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        source: Source,
        *,
        root: TrustedRoot | KnownRoot = INTEL,
        early: bool = False,
        evaluation: int | None = None,
        seconds: float = FETCH_SECONDS,
        clock: Callable[[], datetime] = _present,
        jitter: Callable[[], float] = _random,
    ) -> None:
        if not isinstance(source, Source):
            raise WrongTypeError("the source", "a Source, such as INTEL_PCS", source)
        require_set(early, evaluation)
        self._arguments: dict[str, Any] = {"root": root, "early": early, "evaluation": evaluation, "seconds": seconds}
        self._arguments |= {"clock": clock, "jitter": jitter}
        self._source = source
        self._early, self._evaluation, self._seconds = early, evaluation, time_limit(seconds)
        self._clock, self._jitter = clock, jitter
        self._files = CacheDirectory(path_argument("the cache's directory", directory), trusted_root(root))
        self._kinds: dict[bytes, PlatformKind] = {}  # by the part of a quote that certifies its attestation key
        self._renewals: dict[tuple[int, Path], Future[FetchError | None]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return partial(CollateralCache, **self._arguments), (self._files.directory, self._source)

    def get(self, quote: QuoteInput) -> CachedCollateral:
        """Return the collateral of a quote's platform from disk or the source. `quote` has any form of QuoteInput.

        The call blocks while no set is stored, until the source has answered or failed.

        Raises:
            FetchError: no set that verifies is stored or can be fetched; or the directory cannot be used.
            MalformedError: the quote has no readable PCK certificate.
        """
        kind = self._kind(bytes_of(quote))
        at_hand = self._at_hand(kind)
        if at_hand.renewal is not None:
            wait([at_hand.renewal], at_hand.patience)
        return self._outcome(kind, at_hand)

    async def aget(self, quote: QuoteInput) -> CachedCollateral:
        """Return collateral like `get`, in asyncio programs. A new set takes milliseconds of the event loop to read."""
        kind = self._kind(bytes_of(quote))
        at_hand = self._at_hand(kind)
        if at_hand.renewal is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(at_hand.renewal), at_hand.patience)
        return self._outcome(kind, at_hand)

    def renew(self, quote: QuoteInput) -> CachedCollateral:
        """Fetch the collateral of a quote's platform now, and wait for it: for a timer or a job.

        The pause after a failure is kept. If the source fails, a set that is stored stays in use.

        Raises:
            FetchError: the source failed, or is not asked yet after a failure; or the directory cannot be used.
            MalformedError: the quote has no readable PCK certificate.
        """
        kind = self._kind(bytes_of(quote))
        self._files.require_private()
        # In a thread, because the caller's may run an event loop.
        renewal = call_detached(self._renew, kind, forced=True)
        if (error := renewal.result()) is not None:
            raise error
        return self._outcome(kind, _AtHand(None, renewal))

    def discard(self, quote: QuoteInput) -> None:
        """Remove the collateral of a quote's platform, or of an FMSPC (6 bytes, or 12 hexadecimal digits).

        The next call fetches it, whatever failed before.

        Raises:
            FetchError: the directory cannot be written.
            MalformedError: the quote has no readable PCK certificate.
        """
        data = bytes_of(quote)
        kinds = [PlatformKind(data, ca) for ca in PCK_CAS] if len(data) == _FMSPC_SIZE else [self._kind(data)]
        for kind in kinds:
            self._files.discard(self._path(kind))

    def _kind(self, quote: bytes) -> PlatformKind:
        """Return a quote's kind of platform; reading certificates takes longer than everything else in a call."""
        part = QuoteFrame.parse(quote).certifying_part
        if (kind := self._kinds.get(part)) is None:
            kind = platform_kind(quote)
            if len(part) <= MAX_KNOWN_PART:
                if len(self._kinds) >= MAX_KNOWN_KEYS:
                    self._kinds.clear()
                self._kinds[part] = kind
        return kind

    def _path(self, kind: PlatformKind) -> Path:
        chosen = (self._source.base, self._source.root_crl, kind.fmspc.hex(), kind.ca, self._early, self._evaluation)
        return self._files.directory / f"{hashlib.sha256(repr(chosen).encode()).hexdigest()}.json"

    def _read(self, path: Path, kind: PlatformKind, now: datetime) -> CachedSet | None:
        return self._files.read(path, now, lambda collateral: not difference(collateral, kind, self._evaluation))

    def _at_hand(self, kind: PlatformKind) -> _AtHand:
        self._files.require_private()
        path, now = self._path(kind), self._clock()
        held = self._read(path, kind, now)
        if held is not None and held.prepared.documents.is_fresh(now):
            return _AtHand(held)
        backoff = self._files.read_backoff(path)
        if backoff is not None and backoff.holds(now, held=held is not None):
            if held is not None:
                return _AtHand(held, problem=backoff.problem)
            if backoff.failures:
                raise backoff.error(self._source.base, held=False)
        renewal, problem = self._renewal(path, kind)
        if held is None:
            return _AtHand(None, renewal)
        waits = held.prepared.documents.expires - now <= LAST_DAYS
        problem = (backoff.problem if backoff else "") or problem
        return _AtHand(held, renewal if waits else None, LAST_DAYS_WAIT_SECONDS, problem)

    def _outcome(self, kind: PlatformKind, at_hand: _AtHand) -> CachedCollateral:
        held, problem, error = at_hand.held, at_hand.problem, None
        if at_hand.renewal is not None:
            if at_hand.renewal.done():
                error = _error_of(at_hand.renewal)
                problem = "" if error is None else str(error)
            held = self._read(self._path(kind), kind, self._clock())
        if held is not None:
            age = self._clock() - held.prepared.documents.issued[1]
            return CachedCollateral(held.collateral, held.prepared, age, problem)
        if error is not None:
            raise copy.copy(error) from error  # several threads may wait for one renewal
        raise FetchError("no collateral is at hand", why="the set was discarded, or expired", remedy="try again")

    def _renewal(self, path: Path, kind: PlatformKind) -> tuple[Future[FetchError | None], str]:
        """Start the renewal of a set, or return the one that runs in this process; and why the one before failed."""
        key = (os.getpid(), path)  # renewals of the process that forked this one do not run here
        with self._lock:
            last = self._renewals.get(key)
            if last is not None and not last.done():
                return last, ""
            try:
                renewal = self._renewals[key] = call_detached(self._renew, kind)
            except RuntimeError as error:
                renewal = Future()
                renewal.set_result(FetchError("no thread can be started", why=str(error), remedy="raise its limit"))
        return renewal, str(_error_of(last) or "") if last is not None else ""

    def _renew(self, kind: PlatformKind, *, forced: bool = False) -> FetchError | None:
        path = self._path(kind)
        try:
            with self._files.locked(path, self._seconds):
                now, backoff = self._clock(), self._files.read_backoff(path)
                held = self._read(path, kind, now)
                if backoff is not None and backoff.failures and backoff.holds(now, held=held is not None):
                    return backoff.error(self._source.base, held=held is not None)
                if held is not None and not forced:
                    # Another process renewed it while this one waited for the lock.
                    answered = backoff is not None and backoff.holds(now, held=True)
                    if answered or held.prepared.documents.is_fresh(now):
                        return None
                return self._fetch(path, kind, held, backoff)
        except FetchError as error:  # the directory or its lock
            return error

    def _fetch(
        self, path: Path, kind: PlatformKind, held: CachedSet | None, backoff: Backoff | None
    ) -> FetchError | None:
        options: dict[str, Any] = {"early": self._early, "evaluation": self._evaluation, "seconds": self._seconds}
        try:
            collateral = run_apart(fetch_set(kind, self._source, partial(self._verified, path, held), **options))
            self._files.write(path, collateral)
        except FetchError as error:
            failed = Backoff.after_failure(error, backoff, self._clock(), self._jitter)
            self._files.write_backoff(path, failed)
            return error
        self._files.write_backoff(path, Backoff.after_answer(self._clock()))
        return None

    def _verified(self, path: Path, held: CachedSet | None, collateral: Collateral) -> Collateral:
        try:
            collateral.prepared(self._files.root, self._clock())
        except MalformedError as error:
            revoked = held is not None and self._revokes(collateral.root_ca_crl, held)
            if revoked:
                self._files.discard(path)
            raise FetchError(
                f"{self._source.base} serves collateral that does not verify",
                error_code=REVOKED if revoked else error.error_code,
                why=error.why or error.what,
                remedy="check the cache's root; ask another service: Azure's cache, for one, serves expired sets",
            ) from error
        return collateral

    def _revokes(self, root_ca_crl: bytes, held: CachedSet) -> bool:
        """Return whether a list that the root signed revokes a signer of the set at hand."""
        try:
            replace(held.collateral, root_ca_crl=root_ca_crl).prepared(self._files.root, self._clock())
        except MalformedError as error:
            return error.error_code == REVOKED
        return False


def _error_of(renewal: Future[FetchError | None]) -> BaseException | None:
    return renewal.exception() or renewal.result()


@dataclass(frozen=True, slots=True)
class _AtHand:
    held: CachedSet | None
    renewal: Future[FetchError | None] | None = None
    """The renewal for which the caller waits."""
    patience: float | None = None
    """Seconds that it waits; None means until the renewal ends, which has a time limit of its own."""
    problem: str = ""
