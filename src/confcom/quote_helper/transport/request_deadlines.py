"""Deadlines for receiving a request: one for its first byte, a later one for the whole."""

from __future__ import annotations

from collections.abc import Callable

from confcom.daemon.deadlines import Deadlines
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.transport.connection import Connection


class RequestDeadlines:
    """Reports each connection whose request misses its deadline.

    Args:
        limits: the deadlines, counted from `add`.
        clock: monotonic seconds.
        expired: called once for each connection that misses a deadline.
    """

    __slots__ = ("_expired", "_first_byte", "_whole_request")

    def __init__(self, limits: HelperLimits, clock: Callable[[], float], expired: Callable[[Connection], None]) -> None:
        self._expired = expired
        self._first_byte = Deadlines(limits.first_byte_seconds, clock, self._on_first_byte_timeout)
        self._whole_request = Deadlines(
            max(0.0, limits.whole_request_seconds - limits.first_byte_seconds), clock, self._expired
        )

    def add(self, connection: Connection) -> None:
        """Start both deadlines of a connection."""
        self._first_byte.add(connection)

    def discard(self, connection: Connection) -> None:
        """Remove a connection, if present."""
        self._first_byte.discard(connection)
        self._whole_request.discard(connection)

    def close(self) -> None:
        """Cancel all deadlines."""
        self._first_byte.close()
        self._whole_request.close()

    def _on_first_byte_timeout(self, connection: Connection) -> None:
        if connection.started:
            self._whole_request.add(connection)
        else:
            self._expired(connection)
