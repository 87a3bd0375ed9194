"""Instants: the one form in which they are written here, and which ones can be verified for."""

from __future__ import annotations

from datetime import UTC, datetime

from confcom.errors import SettingsError


def utc_text(instant: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`, as certificates and collateral have it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def require_instant(time: datetime) -> datetime:
    """The time in UTC.

    Raises:
        SettingsError: it has no time zone, lies before 1970 (verifiers count seconds from there), or after year 9999.
    """
    try:
        if time.tzinfo is not None and time.timestamp() >= 0:
            return time.astimezone(UTC)
    except OverflowError:
        pass
    raise SettingsError(
        f"{time.isoformat()} is not an instant since 1970",
        why="certificates are valid between instants, not between wall-clock times",
        remedy="pass a time with its offset from UTC, such as 2026-11-24T12:00:00Z; in Python, datetime.now(UTC)",
    )
