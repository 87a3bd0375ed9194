"""A cache of collateral on disk that many processes can share; its files are private and replaced atomically."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from confcom.collateral.pcs_client import FETCH_SECONDS, FetchError, fetch_collateral, require_set
from confcom.collateral.source import Source
from confcom.errors import MalformedError
from confcom.sgx.collateral_json import MAX_JSON_SIZE
from confcom.verify.argument_types import path_argument
from confcom.verify.files import UnreadableInputError, read_regular_file
from confcom.verify.prepared_collateral import Collateral, platform_kind
from confcom.verify.verdict import utc_text
from confcom.verify.verifier import QuoteInput, bytes_of


@dataclass(frozen=True, slots=True)
class CachedCollateral:
    """Collateral and its age."""

    collateral: Collateral
    """The collateral of the quote's platform, which by the cache's clock has not expired."""
    age: timedelta
    """Time since the oldest part was issued, the root's revocation list (issued yearly) excepted."""
    problem: str = ""
    """Why the renewal failed; empty if the renewal succeeded or was not due."""


class CollateralCache:
    """Keeps one source's collateral on disk for many processes, and renews it after half its validity period.

    `get` blocks while it fetches. If the source cannot be reached or serves an expired set, `get` returns the
    stored collateral until the stored collateral expires. Files are not trusted: if a file is damaged or
    belongs to another platform, `get` fetches the collateral again.

    Args:
        directory: the cache's directory, created with mode 0700 if missing; its files have mode 0600.
        source: the service from which collateral is fetched.
        early: whether to fetch early sets, as for `fetch_collateral`.
        evaluation: the TCB evaluation data number of the sets to fetch.
        seconds: the time limit of one fetch.
        clock: a function that returns the present time with a time zone.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        source: Source,
        *,
        early: bool = False,
        evaluation: int | None = None,
        seconds: float = FETCH_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        require_set(early, evaluation)
        self._directory = path_argument("the cache's directory", directory)
        self._source = source
        self._early = early
        self._evaluation = evaluation
        self._fetch = partial(fetch_collateral, source=source, early=early, evaluation=evaluation, seconds=seconds)
        self._clock = clock

    def get(self, quote: QuoteInput) -> CachedCollateral:
        """Return the collateral of a quote's platform from disk or the source. `quote` has any form of QuoteInput.

        Raises:
            FetchError: no current collateral is stored or can be fetched, or the directory is not writable.
            MalformedError: the quote has no readable PCK certificate.
        """
        data, now = bytes_of(quote), self._clock()
        path = self._path(data)
        kept = self._read(path, data)
        if kept is not None and kept.read().is_fresh(now):
            return _aged(kept, now)
        try:
            # Fetch in a new thread: the caller's thread may run an event loop, as in an RA-TLS handshake.
            with ThreadPoolExecutor(1) as thread:
                fetched = thread.submit(self._fetch, data).result()
            _require_current(fetched, self._source, now)
        except (FetchError, MalformedError) as error:
            if kept is None or now >= kept.expires:
                raise
            return _aged(kept, now, str(error))
        self._write(path, fetched)
        return _aged(fetched, now)

    def _path(self, quote: bytes) -> Path:
        kind = platform_kind(quote)
        chosen = (self._source.base, self._source.root_crl, kind.fmspc.hex(), kind.ca, self._early, self._evaluation)
        return self._directory / f"{hashlib.sha256(repr(chosen).encode()).hexdigest()}.json"

    def _read(self, path: Path, quote: bytes) -> Collateral | None:
        try:
            collateral = Collateral.from_json(read_regular_file(path, MAX_JSON_SIZE))
        except (UnreadableInputError, MalformedError):
            return None
        return collateral if collateral.read().tcb_info.fmspc == platform_kind(quote).fmspc else None

    def _write(self, path: Path, collateral: Collateral) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".", dir=self._directory)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(collateral.to_json())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise FetchError(
                f"the cache {self._directory} cannot be written",
                why=error.strerror or str(error),
                remedy="give a directory that this user may write",
            ) from error


def _aged(collateral: Collateral, now: datetime, problem: str = "") -> CachedCollateral:
    return CachedCollateral(collateral, now - collateral.read().issued[1], problem)


def _require_current(fetched: Collateral, source: Source, now: datetime) -> None:
    if now >= fetched.expires:
        raise FetchError(
            f"{source.base} serves collateral that has expired",
            why=f"a part of it was current until {utc_text(fetched.expires)}",
            remedy="ask another service, such as INTEL_PCS; Azure's cache serves such sets by its policy",
        )
