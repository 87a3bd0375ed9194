"""Connections whose answer was sent, until the client has read it.

The kernel charges the bytes of an answer to the sender's memory control group until the client reads them, even after
the sender has closed its socket. So a connection stays open, and counts for its peer, while the kernel holds any bytes.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Final

from confcom.quote_helper.limits_and_deadlines import READING_SECONDS, UNREAD_LOOK_SECONDS, UNWATCHED_SECONDS
from confcom.quote_helper.transport.connection import Connection

READ_EVENTS: Final = select.EPOLLOUT | select.EPOLLET
"""The kernel raises EPOLLOUT when a client has read or dropped the answer. Edge-triggered, because a socket with a
small unread answer counts as writable all the time."""


class UnreadAnswers:
    """Ends each connection when its client has read the answer, or has disconnected.

    Nearly all clients read at once. So a connection is checked soon after its answer was sent, and again for as long as
    its client may be waiting for a processor. If the answer is still unread then, the connection is watched.
    """

    __slots__ = ("_checked", "_clock", "_fail", "_read", "_sent", "_timer", "_watch")

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
        self._checked: deque[Connection] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        """Add a connection that is not watched, whose answer was sent at its `answered_at`."""
        self._sent.append(connection)
        if self._timer is None:
            self._start_timer()

    def check(self) -> None:
        """Make the first check of the connections whose clients have had READING_SECONDS to read."""
        sent = self._sent
        sent_before = self._clock() - READING_SECONDS
        while sent and sent[0].answered_at <= sent_before:
            self._check(sent.popleft(), self._checked.append)

    def close(self) -> None:
        """Stop all checks without closing the connections; the caller closes them."""
        self._sent.clear()
        self._checked.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(UNREAD_LOOK_SECONDS, self._check_again)

    def _check_again(self) -> None:
        self._timer = None
        sent_before = self._clock() - UNWATCHED_SECONDS
        try:
            for _ in range(len(self._checked)):
                connection = self._checked.popleft()
                late = connection.answered_at <= sent_before
                self._check(connection, self._watch if late else self._checked.append)
            self.check()
        finally:
            if self._sent or self._checked:
                self._start_timer()

    def _check(self, connection: Connection, unread: Callable[[Connection], None]) -> None:
        try:
            if connection.has_unread():
                unread(connection)
            else:
                self._read(connection)
        except Exception as error:  # noqa: BLE001 # a failure must not keep the others from being checked
            self._fail(connection, error)
