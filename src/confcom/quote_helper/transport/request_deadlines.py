"""How long a connection may take for its request: soon the first byte, later the rest."""

from __future__ import annotations

from collections.abc import Callable

from confcom.daemon.deadlines import Deadlines
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.transport.connection import Connection


class RequestDeadlines:
    """Hands over each connection whose request is late.

    Args:
        limits: how long it may take, counted from `add` on.
        clock: monotonic seconds.
        expired: called once for each connection that is late.
    """

    __slots__ = ("_expired", "_partial", "_silent")

    def __init__(self, limits: HelperLimits, clock: Callable[[], float], expired: Callable[[Connection], None]) -> None:
        self._expired = expired
        self._silent = Deadlines(limits.first_byte_seconds, clock, self._first_byte_is_due)
        self._partial = Deadlines(
            max(0.0, limits.whole_request_seconds - limits.first_byte_seconds), clock, self._expired
        )

    def add(self, connection: Connection) -> None:
        """Start both times for a connection."""
        self._silent.add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection, if it is held."""
        self._silent.discard(connection)
        self._partial.discard(connection)

    def close(self) -> None:
        """Forget all of them."""
        self._silent.close()
        self._partial.close()

    def _first_byte_is_due(self, connection: Connection) -> None:
        if connection.started:
            self._partial.add(connection)
        else:
            self._expired(connection)
