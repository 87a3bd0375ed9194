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

from confcom.quote_helper.limits import READING_SECONDS, UNREAD_LOOK_SECONDS, UNWATCHED_SECONDS
from confcom.quote_helper.transport.connection import Connection

READ_EVENTS: Final = select.EPOLLOUT | select.EPOLLET
"""The kernel raises EPOLLOUT when a client has read, or dropped, what it was sent. Edge-triggered, because a socket
whose answer is small counts as writable before that."""


class UnreadAnswers:
    """Ends each connection when its client has read the answer, or has gone.

    Nearly all clients read at once, so a connection is looked at soon after its answer was sent, again while its client
    may only be waiting for a processor, and is watched if the answer is still there then.

    Args:
        watch: has the event loop call `check_one` when READ_EVENTS occur on a connection.
        read: ends a connection.
        fail: ends a connection for an error.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_count", "_fail", "_looked_at", "_read", "_sent", "_timer", "_watch")

    def __init__(
        self,
        *,
        watch: Callable[[Connection], None],
        read: Callable[[Connection], None],
        fail: Callable[[Connection, Exception], None],
        clock: Callable[[], float],
    ) -> None:
        self._watch = watch
        self._read = read
        self._fail = fail
        self._clock = clock
        self._sent: deque[Connection] = deque()
        self._looked_at: deque[Connection] = deque()
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
        self._sent.append(connection)
        if self._timer is None:
            self._start_timer()

    def discard(self) -> None:
        """Count one less: a connection that was added has ended."""
        self._count -= 1

    def check(self) -> None:
        """Look, for the first time, at the connections whose clients have had time to read."""
        sent = self._sent
        sent_before = self._clock() - READING_SECONDS
        while sent and sent[0].answered_at <= sent_before:
            self._look(sent.popleft(), self._looked_at.append)

    def check_one(self, connection: Connection) -> None:
        """Look at a connection that is watched."""
        if not connection.has_unread():
            self._read(connection)

    def close(self) -> None:
        """Watch for nothing any more; the connections are the caller's to close."""
        self._sent.clear()
        self._looked_at.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(UNREAD_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        sent_before = self._clock() - UNWATCHED_SECONDS
        try:
            for _ in range(len(self._looked_at)):
                connection = self._looked_at.popleft()
                late = connection.answered_at <= sent_before
                self._look(connection, self._watch if late else self._looked_at.append)
            self.check()
        finally:
            if self._sent or self._looked_at:
                self._start_timer()

    def _look(self, connection: Connection, unread: Callable[[Connection], None]) -> None:
        try:
            if connection.has_unread():
                unread(connection)
            else:
                self._read(connection)
        except Exception as error:  # noqa: BLE001 # it may not keep others from being looked at
            self._fail(connection, error)
