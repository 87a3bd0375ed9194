"""What each peer holds, the limits of it, and the choice of a connection to shed. Pure: counts, no I/O."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from confcom.quote_helper.limits_and_deadlines import (
    ANSWER_OVERHEAD,
    POOL_PART,
    UNREAD_OVERHEAD,
    HelperLimits,
)
from confcom.quote_helper.transport.connection import Connection, largest_answer, largest_refusal

FEW_CONNECTIONS: Final = 64
"""A peer that holds at most 1/64 of the connection limit does not cause a shortage: none of its connections is shed
before its time. At most 64 peers can hold more, and the search for the one that holds the most is among these."""


@dataclass(slots=True, eq=False)
class Account:
    peer: Hashable
    open: int = 0
    """Connections."""
    places: int = 0
    """Connections without an answer, or with a part of it."""
    waiting: int = 0
    """Complete requests that are not answered."""
    unread: int = 0
    """Bytes of the kernel: answers that were not read, and those that may follow for requests that wait."""
    pooled: int = 0
    """Of these, bytes from the pool."""
    sheddable: dict[Connection, float] = field(default_factory=dict)
    """Connections that may be shed, the oldest first, and since when."""
    paused: dict[Connection, None] = field(default_factory=dict)
    """Connections that wait for the account to hold less, the oldest first."""


@dataclass(slots=True)
class _Shared:
    waiting: int
    unread: int
    pool: int


class Accounts:
    """All open connections by peer, and the resources that peers share.

    **Waiting requests** are all answered sooner or later, so a peer may have as many as are left free for all others:
    the more peers there are, the fewer each gets.

    **Unread answers** are memory of the kernel, which it holds for as long as a client does not read, even after the
    helper has ended; it cannot be taken back when other peers come. So each peer has a reserve that no other can take
    and that holds any answer; more than that comes from a pool, of which one peer may hold a part. An answer is counted
    before its request is served. Requests are not counted: they are small, and connections are limited.

    **Paused connections** cost nothing until the limits allow the next step of one. Peers whose own part is used up
    are looked at when they hold less, and the others, which need what all share, form a line: only its head is.
    """

    def __init__(self, limits: HelperLimits) -> None:
        self._places = limits.max_connections
        self._few = max(1, limits.max_connections // FEW_CONNECTIONS)
        self._all = _Shared(limits.max_waiting, limits.unread_memory, limits.unread_pool)
        self._free = replace(self._all)
        self._least_unread = limits.least_unread
        self._reserve = limits.unread_reserve
        self._unread_per_peer = self._reserve + limits.unread_pool // POOL_PART
        self._peers: dict[Hashable, Account] = {}
        self._open: dict[Connection, None] = {}
        # OrderedDict finds its first entry in constant time; dict does not, after removals from the front.
        self._sheddable: OrderedDict[Connection, float] = OrderedDict()
        self._large: dict[Account, None] = {}
        self._line: OrderedDict[Account, None] = OrderedDict()
        """Peers with paused connections, which wait for what all share."""
        self._given_back: OrderedDict[Account, None] = OrderedDict()
        """Peers with paused connections that hold less than before."""
        self.unanswered = 0
        """Number of open connections without an answer, or with a part of it."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy of the open connections; the accounts may change meanwhile."""
        return iter(list(self._open))

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

    @property
    def unread(self) -> int:
        """Bytes of the kernel that are counted for all peers."""
        return self._all.unread - self._free.unread

    def add(self, connection: Connection) -> None:
        peer = connection.peer.share_key
        account = self._peers.get(peer)
        if account is None:
            account = self._peers[peer] = Account(peer)
        connection.account = account
        self._open[connection] = None
        self.unanswered += 1
        account.open += 1
        account.places += 1
        if account.places == self._few + 1:
            self._large[account] = None

    def remove(self, connection: Connection) -> None:
        account = connection.account
        self.forbid_shedding(connection)
        if connection.waiting:
            self._stop_waiting(connection)
        if not connection.answered:
            self._free_place(account)
        self._set_unread(connection, 0)
        del self._open[connection]
        account.open -= 1
        if not account.open:
            del self._peers[account.peer]
        self._give_back(account)

    def start_serving(self, connection: Connection) -> bool:
        """Count a complete request and the answer to it, if the limits allow both; return whether they do."""
        if connection.account.waiting >= self._free.waiting:
            return False
        return self._start_waiting(connection, largest_answer(connection.request))

    def start_refusing(self, connection: Connection) -> bool:
        """Count a complete request that is refused, whatever number waits, if the limits allow its answer."""
        return self._start_waiting(connection, largest_refusal(connection.request))

    def has_memory_for(self, connection: Connection) -> bool:
        """Return whether the limits allow the answer of a paused connection."""
        return self._may_hold(connection.account, _answer_of(connection), self._free)

    def set_answered(self, connection: Connection, size: int) -> None:
        """Count a connection whose answer of `size` bytes the kernel has taken: only its client can end it."""
        self._stop_waiting(connection)
        self._set_unread(connection, size + UNREAD_OVERHEAD)
        connection.answered = True
        self._free_place(connection.account)
        self._give_back(connection.account)

    @property
    def may_resume(self) -> bool:
        """Whether `next_to_resume` has to be asked."""
        return bool(self._line or self._given_back)

    def pause(self, connection: Connection) -> None:
        account = connection.account
        account.paused[connection] = None
        if len(account.paused) == 1:
            self._stand_in_line(account)

    def stop_pausing(self, connection: Connection) -> None:
        account = connection.account
        if connection not in account.paused:
            return
        del account.paused[connection]
        if account.paused:
            self._give_back(account)
        else:
            self._line.pop(account, None)
            self._given_back.pop(account, None)

    def next_to_resume(self) -> Connection | None:
        """Return a paused connection whose next step the limits allow; None if there is none.

        The head of the line goes first, so that what others gave back is not taken again before its turn.
        """
        while self._line:
            account = next(iter(self._line))
            connection = next(iter(account.paused))
            if self._allow_step(connection, self._free):
                self._line.move_to_end(account)
                return connection
            if self._allow_step(connection, self._all):
                break
            del self._line[account]
        while self._given_back:
            account = next(iter(self._given_back))
            connection = next(iter(account.paused))
            if self._allow_step(connection, self._free):
                return connection
            del self._given_back[account]
            self._stand_in_line(account)
        return None

    def allow_shedding(self, connection: Connection, now: float) -> None:
        """Allow this connection to be shed, from `now` on."""
        sheddable = connection.account.sheddable
        if connection not in sheddable:
            sheddable[connection] = self._sheddable[connection] = now

    def forbid_shedding(self, connection: Connection) -> None:
        if connection.account.sheddable.pop(connection, None) is not None:
            del self._sheddable[connection]

    def sheddable_since(self) -> list[tuple[Connection, float]]:
        """Return the connections that may be shed, the oldest first, each with the time since when."""
        return list(self._sheddable.items())

    def to_shed(self, began_before: float, began_before_if_many: float) -> Connection | None:
        """Return the connection to shed, or None if none may be shed yet.

        It is the oldest sheddable one, if it has been sheddable since `began_before`. Else it is the oldest sheddable
        one of the peer with the most places, among the peers that have more than a few. If no peer has, it is the
        oldest sheddable one, if it has been sheddable since `began_before_if_many`.
        """
        oldest, since = next(iter(self._sheddable.items()), (None, began_before))
        if since <= began_before:
            return oldest
        largest = max((each for each in self._large if each.sheddable), key=lambda each: each.places, default=None)
        if largest is not None:
            return next(iter(largest.sheddable))
        return oldest if since <= began_before_if_many else None

    def _free_place(self, account: Account) -> None:
        self.unanswered -= 1
        if account.places == self._few + 1:
            del self._large[account]
        account.places -= 1

    def _stand_in_line(self, account: Account) -> None:
        if self._allow_step(next(iter(account.paused)), self._all):
            self._line.setdefault(account)

    def _give_back(self, account: Account) -> None:
        if account.paused:
            self._given_back[account] = None

    def _allow_step(self, connection: Connection, free: _Shared) -> bool:
        """Return whether a paused connection may be read, or its request served, if so much is free."""
        account = connection.account
        return account.waiting < free.waiting and self._may_hold(account, _answer_of(connection), free)

    def _start_waiting(self, connection: Connection, answer: int) -> bool:
        account = connection.account
        if not self._may_hold(account, answer, self._free):
            return False
        self._set_unread(connection, answer)
        connection.waiting = True
        account.waiting += 1
        self._free.waiting -= 1
        return True

    def _stop_waiting(self, connection: Connection) -> None:
        connection.waiting = False
        connection.account.waiting -= 1
        self._free.waiting += 1

    def _may_hold(self, account: Account, more: int, free: _Shared) -> bool:
        more = max(more, self._least_unread)
        unread = account.unread + more
        pooled = unread - self._reserve
        fits_pool = pooled <= 0 or pooled - account.pooled <= max(0, free.pool)
        return fits_pool and unread <= self._unread_per_peer and more <= free.unread

    def _set_unread(self, connection: Connection, size: int) -> None:
        if size:
            size = max(size, self._least_unread)
        account, change = connection.account, size - connection.unread
        connection.unread = size
        account.unread += change
        self._free.unread -= change
        pooled = account.unread - self._reserve if account.unread > self._reserve else 0
        self._free.pool -= pooled - account.pooled
        account.pooled = pooled


def _answer_of(connection: Connection) -> int:
    return largest_answer(connection.request) if connection.complete else ANSWER_OVERHEAD
