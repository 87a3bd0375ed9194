"""Instants: their text form, and the range that verification accepts."""

from __future__ import annotations

from datetime import UTC, datetime

from confcom.errors import SettingsError


def utc_text(instant: datetime) -> str:
    """Return the instant as `YYYY-MM-DDTHH:MM:SSZ`, the form that collateral uses."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def require_instant(time: datetime) -> datetime:
    """Return the time in UTC.

    Raises:
        SettingsError: the time has no time zone, is before 1970 (verifiers count seconds from there), or is after the
            year 9999.
    """
    try:
        if time.tzinfo is not None and time.timestamp() >= 0:
            return time.astimezone(UTC)
    except OverflowError:
        pass
    raise SettingsError(
        f"{time.isoformat()} is not an instant since 1970",
        error_code="not-an-instant",
        why="certificates are valid between instants, not between wall-clock times",
        remedy="pass a time with its offset from UTC, such as 2026-11-24T12:00:00Z; in Python, datetime.now(UTC)",
    )
