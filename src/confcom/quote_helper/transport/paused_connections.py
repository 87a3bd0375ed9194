"""Connections that are neither read nor answered, because their peer holds as much as it may."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from confcom.daemon.deadlines import Deadlines
from confcom.quote_helper.limits import EVENTS_PER_TURN
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.connection_table import Holding

PEERS_PER_TURN: Final = 256
"""Peers that are looked at before others have the event loop, a microsecond each. Where clients are told apart by their
users, one container can be thousands of peers."""


class PausedConnections:
    """Keeps them, by peer and in their order, until the peer may hold more; complete requests for a limited time.

    Args:
        may_go_on: whether the connection's peer may hold what the next step needs.
        go_on: takes this step.
        refuse: ends the wait of a complete request that has waited for too long; it is not paused any more then.
        wait_seconds: how long a complete request may wait.
        clock: monotonic seconds.
    """

    __slots__ = ("_again", "_complete", "_go_on", "_may_go_on", "_next", "_refuse", "_scheduled", "_stuck", "by_peer")

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
        self.by_peer: dict[Holding[Connection], dict[Connection, None]] = {}
        """Empty while none is paused: each answer looks here."""
        # Not dicts: their first entry is found in constant time also after thousands before it were removed.
        self._next: OrderedDict[Holding[Connection], None] = OrderedDict()
        self._stuck: OrderedDict[Holding[Connection], None] = OrderedDict()
        self._again = False
        self._scheduled = False
        self._complete: Deadlines[Connection] = Deadlines(wait_seconds, clock, self._waited)

    def add(self, connection: Connection) -> None:
        """Pause a connection."""
        connections = self.by_peer.get(connection.holding)
        if connections is None:
            connections = self.by_peer[connection.holding] = {}
            self._stuck[connection.holding] = None
        connections[connection] = None
        if connection.complete:
            self._complete.add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection, if it is paused."""
        holding = connection.holding
        connections = self.by_peer.get(holding)
        if connections is None or connection not in connections:
            return
        del connections[connection]
        if not connections:
            del self.by_peer[holding]
            self._next.pop(holding, None)
            self._stuck.pop(holding, None)
        self._complete.discard(connection)

    def try_soon(self) -> None:
        """Look at all peers again, from the loop's next turn on: some peer holds less now."""
        self._again = True
        self._schedule()

    def close(self) -> None:
        """Forget all of them; the connections are the caller's to close."""
        for peers in (self.by_peer, self._next, self._stuck):
            peers.clear()
        self._complete.close()

    def _schedule(self) -> None:
        if not self._scheduled:
            asyncio.get_running_loop().call_soon(self._try)
            self._scheduled = True

    def _try(self) -> None:
        """Go on with some connections, one of each peer in turn; the others come in the loop's next turn."""
        self._scheduled = False
        if not self._next:
            self._next, self._stuck = self._stuck, self._next
            self._again = False
        left = EVENTS_PER_TURN
        looks = PEERS_PER_TURN
        while left and looks and self._next:
            looks -= 1
            holding = next(iter(self._next))
            connection = next(iter(self.by_peer[holding]))
            if self._may_go_on(connection):
                left -= 1
                self._next.move_to_end(holding)
                self.discard(connection)
                self._go_on(connection)
            else:
                del self._next[holding]
                self._stuck[holding] = None
        if self._next or self._again:
            self._schedule()

    def _waited(self, connection: Connection) -> None:
        self.discard(connection)
        self._refuse(connection)
