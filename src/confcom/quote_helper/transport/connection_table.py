"""Connections, waiting requests and memory of each peer, their limits, and the choice of a connection to shed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from typing import Final

from confcom.quote_helper.limits_and_deadlines import CONNECTION_MEMORY, HelperLimits
from confcom.quote_helper.transport.connection import Connection, Holding, request_memory

FEW_CONNECTIONS: Final = 64
"""A peer that holds at most 1/64 of the connection limit does not cause a shortage: none of its connections is shed
before its time. At most 64 peers can hold more, and the search for the one that holds the most is among these."""


class ConnectionTable:
    """All open connections by peer, and the two resources that peers share: waiting requests and memory.

    Every waiting request is answered sooner or later, so a peer may have as many as are left free for all others: the
    more peers there are, the fewer each gets. Memory is different: a client that does not read its answer holds it
    without a time limit, and it cannot be taken back when other peers come. So each peer has the same small limit.
    """

    __slots__ = (
        "_few",
        "_free_memory",
        "_free_waiting",
        "_holdings",
        "_large",
        "_memory",
        "_memory_per_peer",
        "_open",
        "_places",
        "_sheddable",
        "admitted",
        "freed",
        "paused",
        "unread",
    )

    def __init__(self, limits: HelperLimits) -> None:
        self._places = limits.max_connections
        self._few = max(1, limits.max_connections // FEW_CONNECTIONS)
        self._free_waiting = limits.max_waiting
        self._memory = limits.client_memory
        self._free_memory = limits.client_memory
        self._memory_per_peer = limits.memory_per_peer
        self._holdings: dict[Hashable, Holding] = {}
        self._open: dict[Connection, None] = {}
        # OrderedDict finds its first entry in constant time; dict does not, after removals from the front.
        self._sheddable: OrderedDict[Connection, float] = OrderedDict()
        self._large: dict[Holding, None] = {}
        self.admitted = 0
        """Number of connections since the start."""
        self.unread = 0
        """Number of open connections whose answer was sent, and not read by the client."""
        self.paused: dict[Holding, dict[Connection, None]] = {}
        """Paused connections by peer. Empty while none is paused, so that the check after each answer is cheap."""
        self.freed: Callable[[], None]
        """Called when a peer holds less than before, while connections are paused."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy of the open connections; the table may change meanwhile."""
        return iter(list(self._open))

    @property
    def unanswered(self) -> int:
        """Number of open connections without an answer yet."""
        return len(self._open) - self.unread

    @property
    def free_places(self) -> int:
        """How many more connections are allowed; negative if there are too many.

        Unread answers do not count: only their clients could end those connections. Their memory is bounded.
        """
        return self._places - self.unanswered

    @property
    def sheddable(self) -> int:
        """Number of connections that may be shed: their request is incomplete or paused."""
        return len(self._sheddable)

    def oldest_sheddable(self, most: int) -> list[Connection]:
        """Return the oldest connections that may be shed, at most `most`."""
        return list(islice(self._sheddable, most))

    @property
    def memory(self) -> int:
        """Bytes that all peers hold: received, and sent but not read."""
        return self._memory - self._free_memory

    def add(self, connection: Connection) -> None:
        """Count a new connection for its peer."""
        self.admitted += 1
        peer = connection.peer.share_key
        holding = self._holdings.get(peer)
        if holding is None:
            holding = self._holdings[peer] = Holding(peer)
        connection.holding = holding
        self._open[connection] = None
        holding.open += 1
        if holding.open == self._few + 1:
            self._large[holding] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection that may not be shed, with everything that is counted for it."""
        holding = connection.holding
        if connection.waiting:
            holding.waiting -= 1
            self._free_waiting += 1
        self._free_memory += connection.charged
        if not connection.in_time:
            holding.memory -= connection.charged
        if connection.charged and self.paused:
            self.freed()
        del self._open[connection]
        if holding.open == self._few + 1:
            del self._large[holding]
        holding.open -= 1
        if not holding.open:
            del self._holdings[holding.peer]

    def room(self, connection: Connection) -> int:
        """Return how many more bytes the peer of this connection may hold; zero or negative if none."""
        return min(self._memory_per_peer - connection.holding.memory, self._free_memory)

    def may_wait(self, connection: Connection, size: int) -> bool:
        """Return whether the peer may have one more waiting request, and hold `size` bytes for this connection."""
        holding = connection.holding
        more = size - connection.charged
        return (
            holding.memory + more <= self._memory_per_peer
            and more <= self._free_memory
            and holding.waiting < self._free_waiting
        )

    def may_resume(self, connection: Connection) -> bool:
        """Return whether the limits of the peer allow the next step of a paused connection."""
        if connection.complete:
            return self.may_wait(connection, request_memory(connection.request, connection.received))
        return self.room(connection) > 0

    def charge(self, connection: Connection, size: int) -> None:
        """Set the bytes that are counted for a connection and its peer."""
        more = size - connection.charged
        connection.charged = size
        connection.holding.memory += more
        self._free_memory -= more
        if more < 0 and self.paused:
            self.freed()

    def start_waiting(self, connection: Connection, size: int) -> None:
        """Count a waiting request, with `size` bytes for its connection."""
        holding = connection.holding
        more = size - connection.charged
        connection.charged = size
        connection.waiting = True
        holding.waiting += 1
        self._free_waiting -= 1
        holding.memory += more
        self._free_memory -= more

    def await_read(self, connection: Connection) -> None:
        """Count an answer that was sent: its bytes do not count for its peer as long as the client has time to read."""
        holding = connection.holding
        connection.waiting = False
        holding.waiting -= 1
        self._free_waiting += 1
        connection.in_time = True
        holding.memory -= connection.charged
        self.unread += 1
        if self.paused:
            self.freed()

    def count_late(self, connection: Connection) -> None:
        """Count an answer for its peer: the client did not read it in time."""
        connection.in_time = False
        connection.holding.memory += connection.charged
        self.charge(connection, CONNECTION_MEMORY + connection.answer_size)

    def allow_shedding(self, connection: Connection, now: float) -> None:
        """Allow this connection to be shed, from `now` on."""
        sheddable = connection.holding.sheddable
        if connection not in sheddable:
            sheddable[connection] = self._sheddable[connection] = now

    def forbid_shedding(self, connection: Connection) -> None:
        """Forbid shedding this connection."""
        if connection.holding.sheddable.pop(connection, None) is not None:
            del self._sheddable[connection]

    def to_shed(self, began_before: float, began_before_if_many: float) -> Connection | None:
        """Return the connection to shed, or None if none may be shed yet.

        It is the oldest sheddable one, if it has been sheddable since `began_before`. Else it is the oldest sheddable
        one of the peer with the most connections, among the peers that have more than a few. If no peer has, it is the
        oldest sheddable one, if it has been sheddable since `began_before_if_many`.
        """
        oldest = next(iter(self._sheddable.items()), None)
        if oldest is None:
            return None
        if oldest[1] <= began_before:
            return oldest[0]
        most = max((one for one in self._large if one.sheddable), key=lambda one: one.open, default=None)
        if most is not None:
            return next(iter(most.sheddable))
        return oldest[0] if oldest[1] <= began_before_if_many else None
