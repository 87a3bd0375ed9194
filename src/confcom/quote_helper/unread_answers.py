"""Connections whose answer was sent, until the client has read it.

The kernel charges the bytes of an answer to the sender's memory control group until the client reads them, also when
the sender has closed its socket. So a connection stays open, and counts for its peer, as long as the kernel holds any.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Final

from confcom.quote_helper.connection import Connection
from confcom.quote_helper.limits import READING_SECONDS, UNREAD_CHECK_SECONDS

READ_EVENTS: Final = select.EPOLLOUT | select.EPOLLET
"""The kernel raises EPOLLOUT when a client has read, or dropped, what it was sent. Edge-triggered, because a socket
whose answer is small counts as writable before that."""


class UnreadAnswers:
    """Ends each connection when its client has read the answer, or has gone.

    Nearly all clients read at once, so a connection is looked at once, soon, and watched only if its answer is still
    there then.

    Args:
        watch: has the event loop call `check_one` when READ_EVENTS occur on a connection.
        read: ends a connection.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_count", "_read", "_recent", "_timer", "_watch")

    def __init__(
        self,
        *,
        watch: Callable[[Connection], None],
        read: Callable[[Connection], None],
        clock: Callable[[], float],
    ) -> None:
        self._watch = watch
        self._read = read
        self._clock = clock
        self._recent: deque[Connection] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, connection: Connection) -> None:
        """Keep a connection whose answer was sent at `answered_at`."""
        self._count += 1
        if connection.watched:
            self._watch(connection)
            return
        self._recent.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(UNREAD_CHECK_SECONDS, self._check_again)

    def discard(self) -> None:
        """Count one less: a connection that was added has ended."""
        self._count -= 1

    def check(self) -> None:
        """Look at the connections that are not watched, the oldest first, as far as their clients have had time."""
        recent = self._recent
        now = self._clock()
        while recent:
            connection = recent[0]
            age = now - connection.answered_at
            if age < READING_SECONDS:
                return
            if not connection.has_unread():
                recent.popleft()
                self._read(connection)
            elif age >= UNREAD_CHECK_SECONDS:
                recent.popleft()
                self._watch(connection)
            else:
                return

    def check_one(self, connection: Connection) -> None:
        """Look at a connection that is watched."""
        if not connection.has_unread():
            self._read(connection)

    def close(self) -> None:
        """Watch for nothing any more; the connections are the caller's to close."""
        self._recent.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _check_again(self) -> None:
        self._timer = None
        self.check()
        if self._recent:
            self._timer = asyncio.get_running_loop().call_later(UNREAD_CHECK_SECONDS, self._check_again)
