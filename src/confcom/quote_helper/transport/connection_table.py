"""What each peer holds: connections, waiting requests and memory; what it may still have; whose connection must go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

C = TypeVar("C", bound=Hashable)

FEW_CONNECTIONS: Final = 64
"""A peer with at most one in so many of all places has few connections, and loses none of them at once: it does not
cause a shortage. At most so many peers have more, and the one that holds the most is found among them."""


@dataclass(slots=True, eq=False)
class Holding(Generic[C]):
    """What one peer holds."""

    peer: Hashable
    open: int = 0
    """Connections."""
    waiting: int = 0
    """Complete requests that are not answered."""
    memory: int = 0
    """Bytes: of requests that were received, and of answers that were not read in time."""
    sheddable: dict[C, float] = field(default_factory=dict)
    """Connections that may be closed for want of places, the oldest first."""


class ConnectionTable(Generic[C]):
    """All open connections by peer, and two things that peers share.

    Waiting requests are answered sooner or later, so a peer may have as many as are left for all others: the more peers
    there are, the less each gets. Memory is different: a client that does not read its answer holds it for as long as
    it likes, and what one peer got cannot be taken back when others come. So each peer may have the same small part.

    Args:
        places: how many connections there are to be; only for the choice of the one to close.
        waiting: how many requests of all peers may wait.
        memory: how many bytes all peers may hold together.
        memory_per_peer: how many bytes one peer may hold.
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
        "_sheddable",
    )

    def __init__(self, *, places: int, waiting: int, memory: int, memory_per_peer: int) -> None:
        self._few = max(1, places // FEW_CONNECTIONS)
        self._free_waiting = waiting
        self._memory = memory
        self._free_memory = memory
        self._memory_per_peer = memory_per_peer
        self._holdings: dict[Hashable, Holding[C]] = {}
        self._open: dict[C, None] = {}
        # Not a dict: its first entry is found in constant time also after thousands before it were removed.
        self._sheddable: OrderedDict[C, float] = OrderedDict()
        self._large: dict[Holding[C], None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[C]:
        """All that are open now; the table may change meanwhile."""
        return iter(list(self._open))

    @property
    def sheddable(self) -> int:
        """How many connections may be closed for want of places."""
        return len(self._sheddable)

    def oldest_sheddable(self, most: int) -> list[C]:
        """The oldest connections that may be closed for want of places, at most so many."""
        return list(islice(self._sheddable, most))

    @property
    def memory(self) -> int:
        """How many bytes all peers hold."""
        return self._memory - self._free_memory

    def add(self, peer: Hashable, connection: C) -> Holding[C]:
        """Count a new connection; the holding is its peer's."""
        holding = self._holdings.get(peer)
        if holding is None:
            holding = self._holdings[peer] = Holding(peer)
        self._open[connection] = None
        holding.open += 1
        if holding.open == self._few + 1:
            self._large[holding] = None
        return holding

    def remove(self, connection: C, holding: Holding[C]) -> None:
        """Forget a connection that does not wait, holds no memory and may not be closed for want of places."""
        del self._open[connection]
        if holding.open == self._few + 1:
            del self._large[holding]
        holding.open -= 1
        if not holding.open:
            del self._holdings[holding.peer]

    def room(self, holding: Holding[C]) -> int:
        """How many more bytes this peer may hold; not positive if none."""
        return min(self._memory_per_peer - holding.memory, self._free_memory)

    def may_wait(self, holding: Holding[C], size: int) -> bool:
        """Whether this peer may have one more waiting request, and hold `size` more bytes."""
        return (
            holding.memory + size <= self._memory_per_peer
            and size <= self._free_memory
            and holding.waiting < self._free_waiting
        )

    def charge(self, holding: Holding[C], size: int) -> None:
        """Count bytes that this peer holds from now on; a negative size returns them."""
        holding.memory += size
        self._free_memory -= size

    def return_memory(self, size: int) -> None:
        """Return bytes that count in all, and for no peer."""
        self._free_memory += size

    def start_waiting(self, holding: Holding[C], size: int) -> None:
        """Count one more waiting request of this peer, with `size` more bytes."""
        holding.waiting += 1
        self._free_waiting -= 1
        holding.memory += size
        self._free_memory -= size

    def stop_waiting(self, holding: Holding[C]) -> None:
        """Count one waiting request less."""
        holding.waiting -= 1
        self._free_waiting += 1

    def allow_shedding(self, connection: C, holding: Holding[C], now: float) -> None:
        """Allow this connection to be closed for want of places, from `now` on."""
        if connection not in holding.sheddable:
            holding.sheddable[connection] = self._sheddable[connection] = now

    def forbid_shedding(self, connection: C, holding: Holding[C]) -> None:
        """Do not allow it any more."""
        if holding.sheddable.pop(connection, None) is not None:
            del self._sheddable[connection]

    def to_shed(self, began_before: float) -> C | None:
        """Choose the connection to close for want of places, among those that may be closed.

        The oldest goes, if it has been one since `began_before`. Else it is the oldest of the peer that holds the most
        connections, if these are more than few. None: no connection may be closed yet.
        """
        oldest = next(iter(self._sheddable.items()), None)
        if oldest is None:
            return None
        if oldest[1] <= began_before:
            return oldest[0]
        most = max((one for one in self._large if one.sheddable), key=lambda one: one.open, default=None)
        return None if most is None else next(iter(most.sheddable))
