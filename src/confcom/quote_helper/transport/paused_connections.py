"""Connections that are neither read nor answered, because their peer has reached its limits."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from confcom.daemon.deadlines import Deadlines
from confcom.quote_helper.limits_and_deadlines import EVENTS_PER_TURN
from confcom.quote_helper.transport.connection import Connection, Holding
from confcom.quote_helper.transport.connection_table import ConnectionTable

PEERS_PER_TURN: Final = 256
"""Peers checked in one turn of the event loop, a microsecond each. Where peers are identified by uid, one container can
be thousands of peers."""


class PausedConnections:
    """Holds paused connections, by peer and in order, until the peer is below its limits.

    A connection whose request is complete is refused after `wait_seconds`; it is no longer paused then.
    """

    __slots__ = (
        "_again",
        "_blocked",
        "_next",
        "_refuse",
        "_resume",
        "_scheduled",
        "_table",
        "_wait_deadlines",
    )

    def __init__(
        self,
        table: ConnectionTable,
        *,
        resume: Callable[[Connection], None],
        refuse: Callable[[Connection], None],
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        table.freed = self._try_soon
        self._resume = resume
        self._refuse = refuse
        # OrderedDict finds its first entry in constant time; dict does not, after removals from the front.
        self._next: OrderedDict[Holding, None] = OrderedDict()
        self._blocked: OrderedDict[Holding, None] = OrderedDict()
        self._again = False
        self._scheduled = False
        self._wait_deadlines: Deadlines[Connection] = Deadlines(wait_seconds, clock, self._on_wait_timeout)

    def add(self, connection: Connection) -> None:
        """Pause a connection."""
        connections = self._table.paused.get(connection.holding)
        if connections is None:
            connections = self._table.paused[connection.holding] = {}
            self._blocked[connection.holding] = None
        connections[connection] = None
        if connection.complete:
            self._wait_deadlines.add(connection)

    def discard(self, connection: Connection) -> None:
        """Remove a connection, if it is paused."""
        holding = connection.holding
        connections = self._table.paused.get(holding)
        if connections is None or connection not in connections:
            return
        del connections[connection]
        if not connections:
            del self._table.paused[holding]
            self._next.pop(holding, None)
            self._blocked.pop(holding, None)
        self._wait_deadlines.discard(connection)

    def close(self) -> None:
        """Remove all connections without closing them; the caller closes them."""
        for peers in (self._table.paused, self._next, self._blocked):
            peers.clear()
        self._wait_deadlines.close()

    def _try_soon(self) -> None:
        self._again = True
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            asyncio.get_running_loop().call_soon(self._try)
            self._scheduled = True

    def _try(self) -> None:
        """Resume connections, one per peer in turn, up to this turn's bounds; the rest follow in the next turn."""
        self._scheduled = False
        if not self._next:
            self._next, self._blocked = self._blocked, self._next
            self._again = False
        connections_left = EVENTS_PER_TURN
        peers_left = PEERS_PER_TURN
        while connections_left and peers_left and self._next:
            peers_left -= 1
            holding = next(iter(self._next))
            connection = next(iter(self._table.paused[holding]))
            if self._table.may_resume(connection):
                connections_left -= 1
                self._next.move_to_end(holding)
                self.discard(connection)
                self._resume(connection)
            else:
                del self._next[holding]
                self._blocked[holding] = None
        if self._next or self._again:
            self._schedule()

    def _on_wait_timeout(self, connection: Connection) -> None:
        self.discard(connection)
        self._refuse(connection)
