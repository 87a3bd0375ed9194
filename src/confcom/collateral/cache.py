"""A cache of collateral on disk, for many processes. It keeps only collateral that passed verification."""

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
from confcom.errors import MalformedError
from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.pck.extension import FMSPC_SIZE
from confcom.sgx.quote import QuoteFrame, tee_of
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import path_argument, time_limit
from confcom.verify.prepared_collateral import (
    MAX_KNOWN_KEYS,
    MAX_KNOWN_PART,
    Collateral,
    PreparedCollateral,
    platform_kind,
)
from confcom.verify.trust import INTEL, KnownRoot, TrustedRoot, trusted_root
from confcom.verify.verifier import QuoteInput, bytes_of

LAST_DAYS: Final = timedelta(days=2)
"""Before this time of a set's validity no call waits for the source: two weeks of attempts are left, or two days."""
LAST_DAYS_WAIT_SECONDS: Final = 2.0
"""Longest wait of a call in the last days: longer than a good source takes, shorter than a peer's patience."""
_PRESENT: Final = partial(datetime.now, UTC)


def _random() -> float:
    return random.random()  # noqa: S311 # it spreads attempts


@dataclass(frozen=True, slots=True)
class CachedCollateral:
    """Collateral that verified under the cache's root, and its age."""

    collateral: Collateral
    """The collateral of the quote's platform, which by the cache's clock has not expired."""
    prepared: PreparedCollateral
    """The collateral, prepared for `verify`. All calls get one object, until the set changes."""
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
        seconds: float = FETCH_SECONDS,
        clock: Callable[[], datetime] = _PRESENT,
        jitter: Callable[[], float] = _random,
    ) -> None:
        require_set(source, early, None)
        self._options: dict[str, Any] = {"early": early, "seconds": time_limit(seconds)}
        self._source, self._clock, self._jitter = source, clock, jitter
        self._files = CacheDirectory(path_argument("the cache's directory", directory), trusted_root(root))
        # By a quote's TEE, and the part of the quote that certifies its attestation key.
        self._kinds: dict[tuple[TeeType, bytes], PlatformKind] = {}
        self._renewals: dict[tuple[int, PlatformKind], Future[None]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        options = self._options | {"root": self._files.root, "clock": self._clock, "jitter": self._jitter}
        return partial(CollateralCache, **options), (self._files.directory, self._source)

    def get(self, quote: QuoteInput) -> CachedCollateral:
        """Return the collateral of a quote's platform from disk or the source. `quote` has any form of QuoteInput.

        The call blocks while no set is stored, until the source has answered or failed.

        Raises:
            FetchError: no set that verifies is stored or can be fetched; or the directory cannot be used.
            MalformedError: the quote has no readable PCK certificate.
            SettingsError: the quote is of TDX, and the source's address has no path for TDX.
        """
        kind, renewal, seconds = self._due(quote)
        if renewal is not None:
            wait([renewal], seconds)
        return self._kept(kind, renewal)

    async def aget(self, quote: QuoteInput) -> CachedCollateral:
        """Return collateral like `get`, in asyncio programs. A new set takes milliseconds of the event loop to read."""
        kind, renewal, seconds = self._due(quote)
        if renewal is not None:
            with contextlib.suppress(TimeoutError, FetchError):
                await asyncio.wait_for(asyncio.wrap_future(renewal), seconds)
        return self._kept(kind, renewal)

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
        call_detached(self._renew, kind, forced=True).result()
        return self._kept(kind)

    def discard(self, quote: QuoteInput) -> None:
        """Remove the collateral of a quote's platform, or of an FMSPC (6 bytes, or 12 hexadecimal digits).

        The next call fetches it, whatever failed before.

        Raises:
            FetchError: the directory cannot be written.
            MalformedError: the quote has no readable PCK certificate.
        """
        data = bytes_of(quote)
        kinds = [PlatformKind(data, ca, tee) for ca in PCK_CAS for tee in TeeType]
        if len(data) != FMSPC_SIZE:
            kinds = [self._kind(data)]
        for kind in kinds:
            self._files.discard(self._path(kind))

    def _kind(self, quote: bytes) -> PlatformKind:
        """Return a quote's kind of platform; reading certificates takes longer than everything else in a call."""
        frame = QuoteFrame.parse(quote)
        key = tee_of(frame.body), frame.certifying_part
        if (kind := self._kinds.get(key)) is None:
            kind = platform_kind(quote)
            self._source.base_of(kind.tee)  # an address without a path for the TEE is an error before anything is read
            if len(frame.certifying_part) <= MAX_KNOWN_PART:
                if len(self._kinds) >= MAX_KNOWN_KEYS:
                    self._kinds.clear()
                self._kinds[key] = kind
        return kind

    def _path(self, kind: PlatformKind) -> Path:
        platform = kind.fmspc.hex(), kind.ca, kind.tee.name
        chosen = (self._source.base, self._source.root_crl, *platform, self._options["early"])
        return self._files.directory / f"{hashlib.sha256(repr(chosen).encode()).hexdigest()}.json"

    def _stored(self, kind: PlatformKind, now: datetime) -> tuple[CachedSet | None, Backoff | None]:
        path = self._path(kind)
        held = self._files.read(path, now, lambda collateral: not difference(collateral, kind))
        return held, self._files.read_backoff(path)

    def _due(self, quote: QuoteInput) -> tuple[PlatformKind, Future[None] | None, float | None]:
        """Return the renewal that is due, and the seconds to wait for it; None: until it ends."""
        kind = self._kind(bytes_of(quote))
        self._files.require_private()
        now = self._clock()
        held, backoff = self._stored(kind, now)
        fresh = held is not None and held.is_fresh(now)
        if fresh or (backoff is not None and backoff.holds(now, held=held is not None)):
            return kind, None, None
        if held is None:
            return kind, self._renewal(kind), None
        last_days = held.prepared.documents.expires - now <= LAST_DAYS
        return kind, self._renewal(kind), LAST_DAYS_WAIT_SECONDS if last_days else 0.0

    def _kept(self, kind: PlatformKind, renewal: Future[None] | None = None) -> CachedCollateral:
        """Return the set that is stored now, or raise the error of the caller's renewal."""
        now = self._clock()
        held, backoff = self._stored(kind, now)
        error = renewal.exception() if renewal is not None and renewal.done() else None
        if held is not None:
            problem = "" if held.is_fresh(now) else str(error or (backoff.problem if backoff else ""))
            age = now - held.prepared.documents.issued[1]
            return CachedCollateral(held.collateral, held.prepared, age, problem)
        if error is not None:
            raise copy.copy(error) from error  # several threads may wait for one renewal
        if backoff is not None:
            raise backoff.error(self._source.base, held=False)
        raise FetchError("no collateral is at hand", why="the set was discarded, or expired", remedy="try again")

    def _renewal(self, kind: PlatformKind) -> Future[None]:
        """Start the renewal of a set, or return the one that runs in this process."""
        key = (os.getpid(), kind)  # renewals of the process that forked this one do not run here
        with self._lock:
            if key not in self._renewals or self._renewals[key].done():
                self._renewals[key] = call_detached(self._renew, kind)
            return self._renewals[key]

    def _renew(self, kind: PlatformKind, *, forced: bool = False) -> None:
        path = self._path(kind)
        try:
            with self._files.locked(path, self._options["seconds"]):
                now = self._clock()
                held, backoff = self._stored(kind, now)
                paused = backoff is not None and backoff.holds(now, held=held is not None)
                # Another process may have renewed the set while this one waited for the lock.
                if not paused and (forced or held is None or not held.is_fresh(now)):
                    verified = partial(self._require_verified, path, held)
                    collateral = run_apart(fetch_set(kind, self._source, verified, **self._options))
                    self._files.write(path, collateral, self._clock())
        except FetchError as error:
            before = self._files.read_backoff(path)
            self._files.write_backoff(path, Backoff.after_failure(error, before, self._clock(), self._jitter))
            raise
        if paused and backoff is not None:
            raise backoff.error(self._source.base, held=held is not None)

    def _require_verified(self, path: Path, held: CachedSet | None, collateral: Collateral) -> None:
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

    def _revokes(self, root_ca_crl: bytes, held: CachedSet) -> bool:
        """Return whether a list that the root signed revokes a signer of the set at hand."""
        try:
            replace(held.collateral, root_ca_crl=root_ca_crl).prepared(self._files.root, self._clock())
        except MalformedError as error:
            return error.error_code == REVOKED
        return False
