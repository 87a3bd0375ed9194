"""Connections, waiting requests and memory of each peer, their limits, and the choice of a connection to shed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

C = TypeVar("C", bound=Hashable)

FEW_CONNECTIONS: Final = 64
"""A peer that holds at most 1/64 of the connection limit does not cause a shortage: none of its connections is shed
before its time. At most 64 peers can hold more, and the search for the one that holds the most is among these."""


@dataclass(slots=True, eq=False)
class Holding(Generic[C]):
    """Connections, waiting requests and memory of one peer."""

    peer: Hashable
    open: int = 0
    """Number of connections."""
    waiting: int = 0
    """Complete requests that are not answered."""
    memory: int = 0
    """Bytes: of requests that were received, and of answers that were not read in time."""
    sheddable: dict[C, float] = field(default_factory=dict)
    """Connections that may be shed, the oldest first, and since when."""


class ConnectionTable(Generic[C]):
    """All open connections by peer, and the two resources that peers share: waiting requests and memory.

    Every waiting request is answered sooner or later, so a peer may have as many as are left free for all others: the
    more peers there are, the fewer each gets. Memory is different: a client that does not read its answer holds it
    without a time limit, and it cannot be taken back when other peers come. So each peer has the same small limit.

    Args:
        places: the connection limit; used only to choose the connection to shed.
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
        # OrderedDict finds its first entry in constant time; dict does not, after removals from the front.
        self._sheddable: OrderedDict[C, float] = OrderedDict()
        self._large: dict[Holding[C], None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[C]:
        """Iterate over a copy of the open connections; the table may change meanwhile."""
        return iter(list(self._open))

    @property
    def sheddable(self) -> int:
        """Number of connections that may be shed."""
        return len(self._sheddable)

    def oldest_sheddable(self, most: int) -> list[C]:
        """Return the oldest connections that may be shed, at most `most`."""
        return list(islice(self._sheddable, most))

    @property
    def memory(self) -> int:
        """Bytes that all peers hold."""
        return self._memory - self._free_memory

    def add(self, peer: Hashable, connection: C) -> Holding[C]:
        """Count a new connection; return its peer's holding."""
        holding = self._holdings.get(peer)
        if holding is None:
            holding = self._holdings[peer] = Holding(peer)
        self._open[connection] = None
        holding.open += 1
        if holding.open == self._few + 1:
            self._large[holding] = None
        return holding

    def remove(self, connection: C, holding: Holding[C]) -> None:
        """Remove a connection that does not wait, holds no memory and may not be shed."""
        del self._open[connection]
        if holding.open == self._few + 1:
            del self._large[holding]
        holding.open -= 1
        if not holding.open:
            del self._holdings[holding.peer]

    def room(self, holding: Holding[C]) -> int:
        """Return how many more bytes this peer may hold; zero or negative if none."""
        return min(self._memory_per_peer - holding.memory, self._free_memory)

    def may_wait(self, holding: Holding[C], size: int) -> bool:
        """Return whether this peer may have one more waiting request, and hold `size` more bytes."""
        return (
            holding.memory + size <= self._memory_per_peer
            and size <= self._free_memory
            and holding.waiting < self._free_waiting
        )

    def charge(self, holding: Holding[C], size: int) -> None:
        """Add `size` bytes to what this peer holds; a negative size returns them."""
        holding.memory += size
        self._free_memory -= size

    def return_memory(self, size: int) -> None:
        """Return bytes that count for the total, and for no peer."""
        self._free_memory += size

    def start_waiting(self, holding: Holding[C], size: int) -> None:
        """Count one more waiting request of this peer, with `size` more bytes."""
        holding.waiting += 1
        self._free_waiting -= 1
        holding.memory += size
        self._free_memory -= size

    def stop_waiting(self, holding: Holding[C]) -> None:
        """Count one waiting request less of this peer."""
        holding.waiting -= 1
        self._free_waiting += 1

    def allow_shedding(self, connection: C, holding: Holding[C], now: float) -> None:
        """Allow this connection to be shed, from `now` on."""
        if connection not in holding.sheddable:
            holding.sheddable[connection] = self._sheddable[connection] = now

    def forbid_shedding(self, connection: C, holding: Holding[C]) -> None:
        """Forbid shedding this connection."""
        if holding.sheddable.pop(connection, None) is not None:
            del self._sheddable[connection]

    def to_shed(self, began_before: float) -> C | None:
        """Return the connection to shed, or None if none may be shed yet.

        It is the oldest sheddable one, if it has been sheddable since `began_before`. Else it is the oldest sheddable
        one of the peer with the most connections, among the peers that have more than a few.
        """
        oldest = next(iter(self._sheddable.items()), None)
        if oldest is None:
            return None
        if oldest[1] <= began_before:
            return oldest[0]
        most = max((one for one in self._large if one.sheddable), key=lambda one: one.open, default=None)
        return None if most is None else next(iter(most.sheddable))
