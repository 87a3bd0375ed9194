"""Fair turns: what waits is taken in turn between its owners, first come first served within each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """A queue with one lane per owner, served round robin: who fills a lane delays nobody but itself.

    An owner that was away comes in at the end of the round, so coming and going gains nothing.

    """

    __slots__ = ("_lanes", "_size")

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, OrderedDict[T, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, owner: Hashable, item: T) -> None:
        """Queue an item, once."""
        lane = self._lanes.get(owner)
        if lane is None:
            lane = self._lanes[owner] = OrderedDict()
        lane[item] = None
        self._size += 1

    def take(self) -> T | None:
        """The next item, whose owner then goes to the end of the round; None if nothing waits."""
        if not self._lanes:
            return None
        owner, lane = self._lanes.popitem(last=False)
        item, _ = lane.popitem(last=False)
        if lane:
            self._lanes[owner] = lane
        self._size -= 1
        return item

    def discard(self, owner: Hashable, item: T) -> None:
        """Take an item out of its turn; nothing happens if it does not wait any more."""
        lane = self._lanes.get(owner)
        if lane is None or item not in lane:
            return
        del lane[item]
        self._size -= 1
        if not lane:
            del self._lanes[owner]
