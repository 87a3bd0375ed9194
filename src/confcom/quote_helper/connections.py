"""Who holds how many connections, and whose must go when there are too many."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


@dataclass(slots=True, eq=False)
class _Holding(Generic[C]):
    open: int = 0
    receiving: dict[C, None] = field(default_factory=dict)


class ConnectionTable(Generic[C]):
    """All open connections by peer; those whose request is not complete in the order in which they were made."""

    __slots__ = ("_holdings", "_open", "_receiving")

    def __init__(self) -> None:
        self._holdings: dict[Hashable, _Holding[C]] = {}
        self._open: dict[C, None] = {}
        self._receiving = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[C]:
        """All that are open now; the table may change meanwhile."""
        return iter(list(self._open))

    @property
    def receiving(self) -> int:
        """How many requests are not complete."""
        return self._receiving

    def add(self, peer: Hashable, connection: C) -> None:
        """A peer holds one more."""
        holding = self._holdings.get(peer)
        if holding is None:
            holding = self._holdings[peer] = _Holding()
        holding.open += 1
        self._open[connection] = None

    def remove(self, peer: Hashable, connection: C) -> None:
        """A peer holds one less."""
        del self._open[connection]
        holding = self._holdings[peer]
        if holding.receiving:
            self.stop_receiving(peer, connection)
        holding.open -= 1
        if not holding.open:
            del self._holdings[peer]

    def start_receiving(self, peer: Hashable, connection: C) -> None:
        """A connection of this peer waits for its request."""
        self._holdings[peer].receiving[connection] = None
        self._receiving += 1

    def stop_receiving(self, peer: Hashable, connection: C) -> None:
        """Its request is complete, or will never be."""
        receiving = self._holdings[peer].receiving
        if connection in receiving:
            del receiving[connection]
            self._receiving -= 1

    def all_receiving(self) -> Iterator[C]:
        """Those whose request is not complete; the table may change meanwhile."""
        for holding in list(self._holdings.values()):
            yield from list(holding.receiving)

    def to_shed(self) -> C | None:
        """The oldest that still waits for its request, of the peer that holds most.

        A peer's only connection is never taken, nor one whose request is complete: None if there is no other. Looking
        costs as much as there are peers, and happens only when all places are taken.
        """
        if not self._receiving:
            return None
        most: _Holding[C] | None = None
        for holding in self._holdings.values():
            if holding.receiving and holding.open > (1 if most is None else most.open):
                most = holding
        return None if most is None else next(iter(most.receiving))
