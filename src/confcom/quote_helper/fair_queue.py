"""A queue with turns for peers; it holds waiting requests, paused connections or calls for slow peers."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """A queue with one lane per owner, served round robin: an owner with a long lane delays only itself.

    An owner whose lane was empty or set aside joins at the end of the round, so it gains nothing by leaving.
    """

    __slots__ = ("_aside", "_lanes", "size")

    def __init__(self) -> None:
        # OrderedDict finds its first entry in constant time; dict does not, after removals from the front.
        self._lanes: OrderedDict[Hashable, OrderedDict[T, None]] = OrderedDict()
        self._aside: dict[Hashable, OrderedDict[T, None]] = {}
        self.size = 0  # number of items, including those in lanes that were set aside

    def __contains__(self, owner: Hashable) -> bool:
        return owner in self._lanes or owner in self._aside

    def put(self, owner: Hashable, item: T, *, first: bool = False) -> None:
        """Queue an item that is not queued yet, at the end of its lane, or at the start if `first` is set."""
        lane = self._lanes.get(owner) or self._aside.get(owner)
        if lane is None:
            lane = self._lanes[owner] = OrderedDict()
        lane[item] = None
        if first:
            lane.move_to_end(item, last=False)
        self.size += 1

    def head(self) -> T | None:
        return next(iter(next(iter(self._lanes.values()))), None) if self._lanes else None

    def head_of(self, owner: Hashable) -> T | None:
        return next(iter(self._lanes.get(owner) or self._aside.get(owner) or ()), None)

    def take(self) -> T | None:
        """Remove and return the next item, if any, and move its owner to the end of the round."""
        if not self._lanes:
            return None
        owner, lane = self._lanes.popitem(last=False)
        item, _ = lane.popitem(last=False)
        if lane:
            self._lanes[owner] = lane
        self.size -= 1
        return item

    def leading(self, condition: Callable[[T], bool]) -> Iterator[T]:
        """Iterate over each lane's items up to the first item that does not fulfil a condition."""
        for lane in self._lanes.values():
            yield from takewhile(condition, lane)

    def discard(self, owner: Hashable, item: T) -> None:
        lane = self._lanes.get(owner) or self._aside.get(owner)
        if lane is None or item not in lane:
            return
        del lane[item]
        self.size -= 1
        if not lane:
            self._lanes.pop(owner, None)
            self._aside.pop(owner, None)

    def set_aside(self, owner: Hashable) -> None:
        """Remove an owner's lane from the round, and keep its items until `rejoin`."""
        self._aside[owner] = self._lanes.pop(owner)

    def rejoin(self, owner: Hashable) -> None:
        if (lane := self._aside.pop(owner, None)) is not None:
            self._lanes[owner] = lane
