"""A fair queue: round robin between owners, first in, first out for each owner."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """A queue with one lane per owner, served round robin: an owner with a long lane delays only itself.

    An owner whose lane was empty joins at the end of the round, so leaving and rejoining is no advantage.
    """

    __slots__ = ("_lanes", "_size")

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, OrderedDict[T, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, owner: Hashable, item: T) -> None:
        """Queue an item, which must not be queued already."""
        lane = self._lanes.get(owner)
        if lane is None:
            lane = self._lanes[owner] = OrderedDict()
        lane[item] = None
        self._size += 1

    def take(self) -> T | None:
        """Remove and return the next item, and move its owner to the end of the round; None if the queue is empty."""
        if not self._lanes:
            return None
        owner, lane = self._lanes.popitem(last=False)
        item, _ = lane.popitem(last=False)
        if lane:
            self._lanes[owner] = lane
        self._size -= 1
        return item

    def discard(self, owner: Hashable, item: T) -> None:
        """Remove an item; nothing happens if it is not queued."""
        lane = self._lanes.get(owner)
        if lane is None or item not in lane:
            return
        del lane[item]
        self._size -= 1
        if not lane:
            del self._lanes[owner]
