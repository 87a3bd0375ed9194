"""Accepting connections in bounded batches, also under floods, at the connection limit, and out of descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Final

from confcom.quote_helper.limits_and_deadlines import ACCEPT_BATCH, HelperLimits
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.connection_handler import ConnectionHandler
from confcom.quote_helper.transport.connection_table import ConnectionTable
from confcom.quote_helper.transport.observer import Observer
from confcom.quote_helper.transport.peers import PeerIdentifier

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""accept() lacks a descriptor or memory (accept(2)); the connection stays in the backlog."""


class Acceptor:
    """Accepts from listening sockets, which it does not own, up to the connection limit.

    Accepting pauses when the limit is reached or descriptors run out, and no connection may be shed. It resumes when a
    connection ends, or after a short time. Meanwhile clients wait in the kernel's backlog, and the loop does not spin.
    """

    def __init__(
        self,
        *,
        epoll: select.epoll,
        table: ConnectionTable,
        handler: ConnectionHandler,
        identify: PeerIdentifier,
        observer: Observer,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._epoll = epoll
        self._table = table
        self._handler = handler
        self._identify = identify
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._listeners: dict[int, socket.socket] = {}
        self._paused = False
        self._reserve = _open_reserve()
        self._retry: asyncio.TimerHandle | None = None

    @property
    def listeners(self) -> list[socket.socket]:
        """The listening sockets that are served."""
        return list(self._listeners.values())

    @property
    def needs_resume(self) -> bool:
        """Whether to call `resume` when a connection ends: accepting is paused, or the reserve descriptor is used."""
        return self._paused or self._reserve is None

    def add(self, listener: socket.socket) -> None:
        """Start serving a listening socket."""
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), 0 if self._paused else select.EPOLLIN)

    def remove(self, listener: socket.socket) -> None:
        """Stop serving a listening socket: accept its backlog; the kernel refuses later connections."""
        if self._listeners.pop(listener.fileno(), None) is None:
            return
        self._epoll.unregister(listener.fileno())
        # New connections are refused from here on, and those in the backlog can still be accepted.
        listener.shutdown(socket.SHUT_RD)
        while self._accept_batch(listener):
            pass

    def accept_from(self, descriptor: int) -> None:
        """Accept from a readable listener, for at most one turn's time; the rest is accepted in the next turn."""
        listener = self._listeners.get(descriptor)
        ends = self._clock() + self._limits.turn_seconds
        while listener is not None and self._accept_batch(listener) and self._clock() < ends:
            pass

    def resume(self) -> None:
        """Resume accepting after a pause, and reopen the reserve: a connection has ended, or the retry timer fired."""
        if self._reserve is None:
            self._reserve = _open_reserve()
        if self._paused:
            self._paused = False
            self._watch_listeners(select.EPOLLIN)

    def close(self) -> None:
        """Stop serving all listeners, and release the timer and the reserve descriptor."""
        for descriptor in self._listeners:
            self._epoll.unregister(descriptor)
        self._listeners.clear()
        if self._retry is not None:
            self._retry.cancel()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _accept_batch(self, listener: socket.socket) -> bool:
        room = self._table.free_places
        # At the limit (room is 0) one more is accepted before another is shed for it, since the backlog may be empty.
        # If nothing can be shed, the new connection stays.
        if room < 0 and not self._shed():
            self._pause(
                "all connection slots are in use, and none can be freed yet",
                self._limits.crowded_retry_seconds,
            )
            return False
        accepted: list[socket.SocketType] = []
        more = self._accept(listener, accepted, max(1, min(room, ACCEPT_BATCH)))
        # A whole batch is accepted before the first is read, which gives its clients time to send.
        for sock in accepted:
            if room <= 0:
                self._shed()
            self._handler.admit(Connection(sock, self._identify(sock)))
        return more

    def _accept(self, listener: socket.socket, accepted: list[socket.SocketType], most: int) -> bool:
        try:
            # Appended one by one: what was accepted before a failure is kept.
            accepted.extend(_accept_one(listener) for _ in range(most))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                return self._free_descriptor(error)
            # EINVAL: the listener was shut down and is empty. ECONNABORTED: one client disconnected, others may follow.
            return error.errno == errno.ECONNABORTED
        return True

    def _free_descriptor(self, error: OSError) -> bool:
        """Free a descriptor: use the reserve, else shed a connection, else pause. Return whether one was freed."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            return True
        if self._shed():
            return True
        self._pause(error.strerror or str(error), self._limits.accept_retry_seconds)
        return False

    def _shed(self) -> bool:
        now, limits = self._clock(), self._limits
        connection = self._table.to_shed(now - limits.crowded_seconds, now - limits.many_peers_seconds)
        if connection is None:
            return False
        self._handler.drop(connection, "shed")
        return True

    def _pause(self, reason: str, seconds: float) -> None:
        if not self._paused:
            self._paused = True
            self._watch_listeners(0)
            self._observer.accepting_paused(reason)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(seconds, self.resume)

    def _watch_listeners(self, events: int) -> None:
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, events)


def _accept_one(listener: socket.socket) -> socket.SocketType:
    """Accept like `listener.accept()`, without its enum look-ups, which cost 4 µs of the 90 µs that a quote takes."""
    # `socket.accept` calls this method; typeshed does not declare it.
    descriptor, _ = listener._accept()  # type: ignore[attr-defined] # noqa: SLF001
    return socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
