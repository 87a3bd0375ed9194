"""Connections that are neither read nor answered, because their peer holds as much as it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from confcom.quote_helper.connection import Connection
from confcom.quote_helper.connections import Holding
from confcom.quote_helper.deadlines import Deadlines
from confcom.quote_helper.limits import EVENTS_PER_TURN


class PausedConnections:
    """Keeps them, by peer and in their order, until the peer may hold more; complete requests for a limited time.

    Args:
        may_go_on: whether the connection's peer may hold what the next step needs.
        go_on: takes this step.
        refuse: ends the wait of a complete request that has waited for too long; it is not paused any more then.
        wait_seconds: how long a complete request may wait.
        clock: monotonic seconds.
    """

    __slots__ = ("_by_peer", "_complete", "_go_on", "_may_go_on", "_refuse", "_scheduled")

    def __init__(
        self,
        *,
        may_go_on: Callable[[Connection], bool],
        go_on: Callable[[Connection], None],
        refuse: Callable[[Connection], None],
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._may_go_on = may_go_on
        self._go_on = go_on
        self._refuse = refuse
        self._by_peer: dict[Holding[Connection], dict[Connection, None]] = {}
        self._complete: Deadlines[Connection] = Deadlines(wait_seconds, clock, self._waited)
        self._scheduled = False

    @property
    def any(self) -> bool:
        """Whether a connection is paused."""
        return bool(self._by_peer)

    def add(self, connection: Connection) -> None:
        """Pause a connection."""
        self._by_peer.setdefault(connection.holding, {})[connection] = None
        if connection.complete:
            self._complete.add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection, if it is paused."""
        connections = self._by_peer.get(connection.holding)
        if connections is None or connection not in connections:
            return
        del connections[connection]
        if not connections:
            del self._by_peer[connection.holding]
        self._complete.discard(connection)

    def try_soon(self) -> None:
        """Look again in the loop's next turn: some peer holds less now."""
        if not self._scheduled:
            asyncio.get_running_loop().call_soon(self._try)
            self._scheduled = True

    def close(self) -> None:
        """Forget all of them; the connections are the caller's to close."""
        self._by_peer.clear()
        self._complete.close()

    def _try(self) -> None:
        """Go on with some connections, one of each peer in turn; the others come in the loop's next turn."""
        self._scheduled = False
        left = EVENTS_PER_TURN
        stuck = 0
        while left and stuck < len(self._by_peer):
            holding, connections = next(iter(self._by_peer.items()))
            connection = next(iter(connections))
            if self._may_go_on(connection):
                left -= 1
                stuck = 0
                self.discard(connection)
                self._go_on(connection)
            else:
                stuck += 1
            if holding in self._by_peer:
                self._by_peer[holding] = self._by_peer.pop(holding)
        if not left and self._by_peer:
            self.try_soon()

    def _waited(self, connection: Connection) -> None:
        self.discard(connection)
        self._refuse(connection)
