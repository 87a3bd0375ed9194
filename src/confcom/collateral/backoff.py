"""When a source is asked again after a failure: decided without I/O, and kept in a small file."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Self

from confcom.collateral.fetch_errors import FetchError
from confcom.daemon.backoff import retry_pause
from confcom.errors import shortened
from confcom.sgx.signed_json import MAX_INTEGER
from confcom.verify.verdict import utc_text

FIRST_PAUSE_SECONDS: Final = 30.0
"""After the first failure; each further one doubles the pause. Half of a pause is random, so that machines spread."""
LONGEST_PAUSE_SECONDS: Final = 3600.0
"""While a set is at hand: 48 attempts remain in the last two days of its validity."""
LONGEST_PAUSE_WITHOUT_SET_SECONDS: Final = 60.0
"""While no set is at hand, and every quote waits for the source to come back."""
UNKNOWN_PLATFORM_SECONDS: Final = 600.0
"""After a 404: a PCCS learns of a new platform when somebody registers it, not by being asked."""
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
"""The longest Retry-After that a cache obeys: a hostile answer must not delay requests until the set expires."""
MAX_BACKOFF_SIZE: Final = 16 * 1024
"""Bytes of the file; it has under 3 KiB."""
_MOST_SECONDS: Final = 1e12
"""Bound of an instant and of a pause: 30,000 years."""
_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Backoff:
    """The last failure of a source, for one kind of platform."""

    at: float
    """In seconds of Unix time."""
    failures: int
    """Failures since the last answer."""
    pause: float
    """Our own pause, in seconds."""
    demanded: float
    """The pause that the source demanded, in seconds."""
    code: str
    problem: str

    @classmethod
    def after_failure(cls, error: FetchError, before: Self | None, now: datetime, jitter: Callable[[], float]) -> Self:
        failures = before.failures if before else 0
        pause = retry_pause(failures, jitter, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
        demanded = retry_after_seconds(error.retry_after, now)
        if error.error_code == "source-unknown-platform":
            demanded = max(demanded, UNKNOWN_PLATFORM_SECONDS)
        return cls(now.timestamp(), failures + 1, pause, demanded, error.error_code, shortened(str(error)))

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Return the failure in a file, which is untrusted; None if the file has no valid failure."""
        try:
            found = cls(**json.loads(data))
            seconds = all(0 <= number < _MOST_SECONDS for number in (found.at, found.pause, found.demanded))
            failures = isinstance(found.failures, int) and 0 < found.failures <= MAX_INTEGER
            texts = _CODE.fullmatch(found.code) and isinstance(found.problem, str)
        except (ValueError, TypeError, RecursionError):
            return None
        return found if seconds and failures and texts else None

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def until(self, *, held: bool) -> float:
        """Return the Unix time when the source is asked again, with or without a set at hand."""
        longest = LONGEST_PAUSE_SECONDS if held else LONGEST_PAUSE_WITHOUT_SET_SECONDS
        return self.at + max(min(self.pause, longest), min(self.demanded, LONGEST_RETRY_AFTER_SECONDS))

    def holds(self, now: datetime, *, held: bool) -> bool:
        """Return whether the source is not asked yet. A record from the future comes from a wrong clock."""
        return self.at <= now.timestamp() < self.until(held=held)

    def error(self, source: str, *, held: bool) -> FetchError:
        at, until = (utc_text(datetime.fromtimestamp(time, UTC)) for time in (self.at, self.until(held=held)))
        return FetchError(
            f"{source} is not asked before {until}",
            error_code=self.code,
            why=f"it failed {self.failures} times, at last at {at}: {self.problem}",
            remedy="mend the cause; CollateralCache.discard forgets the pause",
        )


def retry_after_seconds(text: str, now: datetime) -> float:
    """Return the pause in a header Retry-After (RFC 9110, 10.2.3), seconds or a date; 0 if it cannot be read."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip(), re.ASCII):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # A date without a time zone is of UTC, as RFC 9110 has it.
        return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
