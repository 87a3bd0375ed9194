"""Accepting: in bounded batches, through floods, and when there is neither room nor a descriptor."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Final

from confcom.quote_helper.limits import ACCEPT_BATCH, HelperLimits

_NO_MEANS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""accept() lacks a descriptor or memory (accept(2)); the connection stays in the backlog."""


class Acceptor:
    """Accepts from listening sockets, which it does not own, as long as there is room.

    Without room or a descriptor, and with nothing that may be closed for it, it looks at no listener until a connection
    has ended, or for a moment: clients wait in the kernel's backlog, and the loop does not spin.

    Args:
        epoll: where the listeners are watched; whoever polls it calls `accept_from`.
        room: how many more connections there may be; negative if there are too many.
        shed: close one that may go; whether there was one.
        admit: takes an accepted socket.
        paused: told the reason when accepting pauses.
        limits: how long one turn may last, when to try again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        epoll: select.epoll,
        room: Callable[[], int],
        shed: Callable[[], bool],
        admit: Callable[[socket.SocketType], None],
        paused: Callable[[str], None],
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._epoll = epoll
        self._room = room
        self._shed = shed
        self._admit = admit
        self._tell_pause = paused
        self._limits = limits
        self._clock = clock
        self._listeners: dict[int, socket.socket] = {}
        self._paused = False
        self._reserve = _open_reserve()
        self._retry: asyncio.TimerHandle | None = None

    @property
    def listeners(self) -> list[socket.socket]:
        """Those that are served."""
        return list(self._listeners.values())

    @property
    def hindered(self) -> bool:
        """Whether a connection's end is worth `go_on`."""
        return self._paused or self._reserve is None

    def add(self, listener: socket.socket) -> None:
        """Serve a listening socket too."""
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), 0 if self._paused else select.EPOLLIN)

    def remove(self, listener: socket.socket) -> None:
        """Serve it no more: who had connected by now is still accepted, who comes later is refused by the kernel."""
        if self._listeners.pop(listener.fileno(), None) is None:
            return
        self._epoll.unregister(listener.fileno())
        # Nobody can connect any more, and what is in the backlog can still be accepted.
        listener.shutdown(socket.SHUT_RD)
        while self._accept_batch(listener):
            pass

    def accept_from(self, descriptor: int) -> None:
        """Accept from a listener that is readable, for at most one turn's time; what is left comes in the next."""
        listener = self._listeners.get(descriptor)
        ends = self._clock() + self._limits.turn_seconds
        while listener is not None and self._accept_batch(listener) and self._clock() < ends:
            pass

    def go_on(self) -> None:
        """A connection has ended, or it is time to try again."""
        if self._reserve is None:
            self._reserve = _open_reserve()
        if self._paused:
            self._paused = False
            self._watch_listeners(select.EPOLLIN)

    def close(self) -> None:
        """Serve no listener any more, and release what is held."""
        for descriptor in self._listeners:
            self._epoll.unregister(descriptor)
        self._listeners.clear()
        if self._retry is not None:
            self._retry.cancel()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _accept_batch(self, listener: socket.socket) -> bool:
        """Whether there may be more to accept."""
        room = self._room()
        # At the cap one more is accepted before another goes for it: there may be none. If nothing may go, it stays.
        if room < 0 and not self._shed():
            self._pause(
                "all places for connections are taken, and none of them may be freed yet",
                self._limits.crowded_retry_seconds,
            )
            return False
        accepted: list[socket.SocketType] = []
        more = self._accept(listener, accepted, max(1, min(room, ACCEPT_BATCH)))
        # A whole batch is accepted before the first is read: its clients have had that time to send.
        for sock in accepted:
            if room <= 0:
                self._shed()
            self._admit(sock)
        return more

    def _accept(self, listener: socket.socket, accepted: list[socket.SocketType], most: int) -> bool:
        try:
            # Appended one by one: what was accepted before a failure is kept.
            accepted.extend(_accept_one(listener) for _ in range(most))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_MEANS:
                return self._find_means(error)
            # EINVAL: it was shut down and is empty. ECONNABORTED: that client has gone, the next may be there.
            return error.errno == errno.ECONNABORTED
        return True

    def _find_means(self, error: OSError) -> bool:
        """Give up the reserve, which lets one connection in at a time whoever has all others; or shed; or pause."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            return True
        if self._shed():
            return True
        self._pause(error.strerror or str(error), self._limits.accept_retry_seconds)
        return False

    def _pause(self, reason: str, seconds: float) -> None:
        """Look at no listener until a connection has ended, or for so many seconds."""
        if not self._paused:
            self._paused = True
            self._watch_listeners(0)
            self._tell_pause(reason)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(seconds, self.go_on)

    def _watch_listeners(self, events: int) -> None:
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, events)


def _accept_one(listener: socket.socket) -> socket.SocketType:
    """Accept as `listener.accept()` does, without its look-ups in enums: 4 µs of the 90 that a quote costs."""
    # What accept() is made of; typeshed does not have it.
    descriptor, _ = listener._accept()  # type: ignore[attr-defined] # noqa: SLF001
    return socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
