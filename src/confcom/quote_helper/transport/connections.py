"""All open connections as a state machine: each connection's stage, and its peer's resources. No I/O.

    RECEIVING --> ANSWERING --> UNREAD --> ENDED
        |             ^
        +--> PAUSED --+

A complete request is served if its peer's limits allow the request and its answer; else it is paused. Until the peer
holds less, its further connections are paused unread, at no cost for other peers. A connection may end in any stage.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from confcom.aesm.messages import GetQuoteExRequest, Request
from confcom.aesm.request_checks import MAX_QUOTE_BUFFER_SIZE
from confcom.quote_helper.fair_queue import FairQueue
from confcom.quote_helper.limits_and_deadlines import ANSWER_OVERHEAD, POOL_PART, UNREAD_OVERHEAD, HelperLimits
from confcom.quote_helper.transport.connection import ANSWERING, ENDED, PAUSED, RECEIVING, UNREAD, Account, Connection

FEW_CONNECTIONS: Final = 64
"""A peer that holds at most 1/64 of the connection limit does not cause a shortage: none of its connections is shed
before its time. At most 64 peers can hold more, so the search for the peer with the most connections is short."""


def largest_refusal(request: Request) -> int:
    """Return the kernel memory in bytes of an unread refusal, which repeats the client's QE report info."""
    repeated = request.qe_report_info if isinstance(request, GetQuoteExRequest) else None
    return len(repeated or b"") + ANSWER_OVERHEAD


def largest_answer(request: Request) -> int:
    """Return how much kernel memory (in bytes) an unread answer to a request takes at most."""
    if not isinstance(request, GetQuoteExRequest):
        return ANSWER_OVERHEAD
    return max(min(request.buf_size, MAX_QUOTE_BUFFER_SIZE), len(request.qe_report_info or b"")) + ANSWER_OVERHEAD


@dataclass(slots=True)
class _Shared:
    waiting: int
    unread: int
    pool: int


class Connections:
    """The open connections, and the resources that peers share.

    **Places** are for connections without an answer. If no place is free, an incomplete or paused connection is shed.

    **Waiting requests** are all answered in the end, so one peer may use up the limit.

    **Unread answers** take kernel memory until the client reads them, even after the helper has ended; the helper
    cannot reclaim this memory for other peers. So memory for one answer of any size is set aside for each
    peer. Further memory comes from a pool; one peer may hold only a part of the pool. An answer is counted
    before its request is served. Requests are not counted, since they are small and connections are limited.

    **Paused connections** cost nothing until the limits allow their next step. Peers take turns for the
    shared resources. A peer that has used up its part of a resource is set aside until the peer holds less.
    """

    def __init__(self, limits: HelperLimits) -> None:
        self._places = limits.max_connections
        self._few = max(1, limits.max_connections // FEW_CONNECTIONS)
        self._all = _Shared(limits.max_waiting, limits.unread_memory, limits.unread_pool)
        self._free = replace(self._all)
        self._least_unread = limits.least_unread
        self._reserve = limits.unread_reserve
        self._unread_per_peer = self._reserve + limits.unread_pool // POOL_PART
        self._accounts: dict[Hashable, Account] = {}
        self._open: dict[Connection, None] = {}
        # OrderedDict finds its first entry in constant time; dict does not, after removals from the front.
        self.sheddable: OrderedDict[Connection, float] = OrderedDict()
        """Connections with an incomplete or paused request, and when this state began; the oldest first."""
        self._large: dict[Account, None] = {}
        self._paused: FairQueue[Connection] = FairQueue()  # by account
        self._hold_less: OrderedDict[Account, None] = OrderedDict()  # paused accounts that now hold less
        self.unanswered = 0  # open connections without an answer

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy, since connections may end meanwhile."""
        return iter(list(self._open))

    @property
    def free_places(self) -> int:
        """Number of free places for connections without an answer; negative if too many are open."""
        return self._places - self.unanswered

    @property
    def unread_memory(self) -> int:
        """Kernel memory in bytes for all answers; an answer counts from its request until it is read."""
        return self._all.unread - self._free.unread

    def add(self, connection: Connection) -> None:
        peer = connection.peer.share_key
        account = self._accounts.get(peer)
        if account is None:
            account = self._accounts[peer] = Account(peer)
        connection.account = account
        self._open[connection] = None
        self.unanswered += 1
        account.open += 1
        account.places += 1
        if account.places == self._few + 1:
            self._large[account] = None

    def set_incomplete(self, connection: Connection, now: float) -> None:
        if connection not in self.sheddable:
            self.sheddable[connection] = connection.account.sheddable[connection] = now

    def serve(self, connection: Connection) -> bool:
        """Change RECEIVING to ANSWERING, if the limits allow request and answer; return whether they do."""
        if connection.account.waiting >= self._free.waiting:
            return False
        return self._answer(connection, largest_answer(connection.request))

    def refuse(self, connection: Connection) -> bool:
        """Change RECEIVING to ANSWERING, if the limits allow the memory of a refusal; return whether they do."""
        return self._answer(connection, largest_refusal(connection.request))

    def pause(self, connection: Connection, now: float) -> None:
        self._keep(connection)
        connection.stage = PAUSED
        self._paused.put(connection.account, connection)
        self.sheddable[connection] = connection.account.sheddable[connection] = now

    def resume(self, connection: Connection) -> None:
        connection.stage = RECEIVING
        self._keep(connection)
        self._paused.discard(connection.account, connection)
        self._note_less(connection.account)

    def set_answered(self, connection: Connection, size: int) -> None:
        """Change ANSWERING to UNREAD: the kernel holds `size` bytes of answer until the client reads them."""
        self._free_place(connection)
        connection.stage = UNREAD
        self._set_unread(connection, size + UNREAD_OVERHEAD)
        self._note_less(connection.account)

    def end(self, connection: Connection) -> None:
        account = connection.account
        if connection.stage is not UNREAD:
            self._keep(connection)
            self._paused.discard(account, connection)
            self._free_place(connection)
        connection.stage = ENDED
        self._set_unread(connection, 0)
        del self._open[connection]
        account.open -= 1
        if not account.open:
            del self._accounts[account.peer]
        self._note_less(account)

    def _answer(self, connection: Connection, answer: int) -> bool:
        if not self._may_hold(connection.account, answer, self._free):
            return False
        if self.sheddable:
            self._keep(connection)
        self._set_unread(connection, answer)
        connection.stage = ANSWERING
        connection.account.waiting += 1
        self._free.waiting -= 1
        return True

    def _free_place(self, connection: Connection) -> None:
        account = connection.account
        if connection.stage is ANSWERING:
            account.waiting -= 1
            self._free.waiting += 1
        self.unanswered -= 1
        if account.places == self._few + 1:
            del self._large[account]
        account.places -= 1

    def has_paused(self, connection: Connection) -> bool:
        return self._paused.size > 0 and connection.account in self._paused

    @property
    def may_resume(self) -> bool:
        return self._paused.size > 0 and (bool(self._hold_less) or self._paused.head() is not None)

    def next_to_resume(self) -> Connection | None:
        """Return a paused connection whose next step the limits allow, preferably the first in the queue."""
        while (head := self._paused.head()) is not None:
            if self._allow_step(head, self._free):
                return self._paused.take()
            if self._allow_step(head, self._all):
                break
            self._paused.set_aside(head.account)
        while self._hold_less:
            account = next(iter(self._hold_less))
            first = self._paused.head_of(account)
            if first is not None and self._allow_step(first, self._free):
                return first
            del self._hold_less[account]
            self._paused.rejoin(account)
        return None

    def has_memory_for(self, connection: Connection) -> bool:
        return self._may_hold(connection.account, _answer_of(connection), self._free)

    def _note_less(self, account: Account) -> None:
        if self._paused.size and account in self._paused:
            self._hold_less[account] = None

    def sheddable_since(self, latest: float) -> list[tuple[Connection, float]]:
        """Return the sheddable connections whose wait began at `latest` or before, and the begin of each wait."""
        return list(takewhile(lambda each: each[1] <= latest, self.sheddable.items()))

    def to_shed(self, began_before: float, began_before_if_many: float) -> Connection | None:
        """Return the connection to shed; None if no connection may be shed.

        In this order: the oldest connection if not newer than `began_before`; the oldest one of the peer with
        the most places (more than a few); the oldest connection if not newer than `began_before_if_many`.
        """
        oldest, since = next(iter(self.sheddable.items()), (None, began_before))
        if since <= began_before:
            return oldest
        largest = max((each for each in self._large if each.sheddable), key=lambda each: each.places, default=None)
        if largest is not None:
            return next(iter(largest.sheddable))
        return oldest if since <= began_before_if_many else None

    def _keep(self, connection: Connection) -> None:
        if connection.account.sheddable.pop(connection, None) is not None:
            del self.sheddable[connection]

    def _allow_step(self, connection: Connection, free: _Shared) -> bool:
        account = connection.account
        return account.waiting < free.waiting and self._may_hold(account, _answer_of(connection), free)

    def _may_hold(self, account: Account, more: int, free: _Shared) -> bool:
        more = max(more, self._least_unread)
        unread = account.unread + more
        from_pool = unread - self._reserve - account.pooled
        fits_pool = from_pool <= 0 or from_pool <= free.pool
        return fits_pool and unread <= self._unread_per_peer and more <= free.unread

    def _set_unread(self, connection: Connection, size: int) -> None:
        if 0 < size < self._least_unread:
            size = self._least_unread
        account, change = connection.account, size - connection.unread
        connection.unread = size
        account.unread += change
        self._free.unread -= change
        pooled = account.unread - self._reserve if account.unread > self._reserve else 0
        self._free.pool -= pooled - account.pooled
        account.pooled = pooled


def _answer_of(connection: Connection) -> int:
    return largest_answer(connection.request) if connection.complete else ANSWER_OVERHEAD
