"""The AESM server: it accepts connections in bounded batches, and answers remaining requests at the end.

Connections are plain sockets in one epoll, which the event loop watches (docs/adr/0005-plain-sockets.md).
"""

import asyncio
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import Final

from confcom.daemon.readiness_log import NotReady
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.handler import ConnectionHandler, DropReason
from confcom.quote_helper.transport.peers import PeerIdentifier, gone_peer, process_has_ended

_logger = logging.getLogger(__name__)

ACCEPT_BATCH: Final = 32
"""Number of connections accepted before one is read. Clients can send meanwhile. Limits are checked often."""
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""accept() lacks a descriptor or memory (accept(2)); the connection stays in the backlog."""
MEMORY_LOOK_SECONDS: Final = 1.0
SHORT_SECONDS: Final = 10.0
"""Seconds for which memory counts as short after a refusal. A refused client asks again within seconds."""
ENDED_HOLD_MEMORY: Final = NotReady(
    "quotes are refused, since answers to processes that have ended, or are not known, fill the memory for unread "
    "answers; delete the helper's Pod: the next one has this memory again",
    code="memory-held-by-ended-processes",
)
_DRAIN_LOOK_SECONDS: Final = 0.005


class AesmServer:
    """Serves listening sockets, which the caller owns.

    Accepting pauses for a short time if places or descriptors run out and no connection may be shed. Clients
    then wait in the kernel's backlog, and the loop does not spin. The server belongs to the running event
    loop.
    """

    def __init__(self, handler: ConnectionHandler, identify: PeerIdentifier) -> None:
        self._handler = handler
        self._identify = identify
        self._observer = handler.observer
        self._limits = handler.limits
        self._clock = handler.clock
        self.connections = handler.connections
        self._listeners: dict[int, socket.socket] = {}
        self.memory_problem: NotReady | None = None
        self._reserve = _open_reserve()
        """A spare descriptor, which is closed when no other is free, so that one client can be accepted."""
        self._retry: asyncio.TimerHandle | None = None  # set while accepting is paused
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._handler.epoll.fileno(), self._take_turn)

    async def watch_memory(self, changed: Callable[[], None]) -> None:
        """Check each second whether quotes are refused for lack of memory that ended processes hold."""
        while True:
            await asyncio.sleep(MEMORY_LOOK_SECONDS)
            problem = ENDED_HOLD_MEMORY if self._ended_hold_memory() else None
            if problem is not self.memory_problem:
                self.memory_problem = problem
                changed()

    def _ended_hold_memory(self) -> bool:
        if self._clock() - self._handler.short_of_memory_at > SHORT_SECONDS:
            return False
        ended = sum(
            each.unread for each in self.connections if each.unread and process_has_ended(each.sock, each.peer.pid)
        )
        return ended > self.connections.unread_memory // 2

    def add_listener(self, listener: socket.socket) -> None:
        """Start serving a listening socket; the caller closes it after `remove_listener`."""
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._handler.epoll.register(listener.fileno(), select.EPOLLIN if self._retry is None else 0)

    def remove_listener(self, listener: socket.socket) -> None:
        """Stop serving a listening socket: serve only its backlog; the kernel refuses later connections."""
        if self._listeners.pop(listener.fileno(), None) is None:
            return
        self._handler.epoll.unregister(listener.fileno())
        # The kernel refuses new connections from here on; connections in the backlog can still be accepted.
        listener.shutdown(socket.SHUT_RD)
        while self._accept_batch(listener):
            pass

    async def stop_accepting(self, after_seconds: float) -> None:
        """Accept for `after_seconds` more, since clients may have found the path before its removal; then stop."""
        await asyncio.sleep(after_seconds)
        for listener in list(self._listeners.values()):
            self.remove_listener(listener)

    async def drain(self) -> None:
        await self._until(lambda: not self.connections.sheddable, self._limits.receive_drain_seconds)
        while self.connections.sheddable:
            self._handler.drop_unserved()
            # Yield to the event loop, since closing thousands of connections takes a tenth of a second.
            await asyncio.sleep(0)
        if not await self._until(lambda: not self.connections.unanswered, self._limits.drain_seconds):
            _logger.warning("requests were left unanswered", extra={"connections": self.connections.unanswered})

    def close(self) -> None:
        self._loop.remove_reader(self._handler.epoll.fileno())
        self._listeners.clear()
        self._handler.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _take_turn(self) -> None:
        # Connections are handled first, since a later socket may get the descriptor of a connection that ends here.
        ready, more = self._handler.poll()
        if more and self._retry is None:
            ready = list(self._listeners)  # thousands of connections must not delay new clients
        if ready and self._reserve is None:
            self._reserve = _open_reserve()
        for listener in filter(None, map(self._listeners.get, ready)):
            ends = self._clock() + self._limits.accept_seconds
            while self._accept_batch(listener) and self._clock() < ends:
                pass

    def _accept_batch(self, listener: socket.socket) -> bool:
        room = self._handler.free_places
        # At the limit (room 0), a client is accepted before a connection is shed, since the backlog may be
        # empty. If no connection can be shed, the new one stays.
        if room < 0 and not self._shed():
            self._pause("all connection slots are in use, and none can be freed yet")
            return False
        accepted: list[socket.SocketType] = []
        more = self._accept(listener, accepted, max(1, min(room, ACCEPT_BATCH)))
        # A whole batch is accepted before the first connection is read, which gives the clients time to send.
        for sock in accepted:
            if room <= 0 and (peer := gone_peer(sock)) is not None:
                self._handler.turn_away(sock, peer)  # closing it costs less than shedding another connection
                continue
            connection = Connection(sock, self._identify(sock))
            if room <= 0:
                self._shed()
            self._handler.admit(connection)
        if accepted:
            self._observer.accepted(len(accepted))
        return more

    def _accept(self, listener: socket.socket, accepted: list[socket.SocketType], limit: int) -> bool:
        try:
            # Sockets are appended one by one, so that a failure does not lose the sockets accepted before it.
            accepted.extend(_accept_one(listener) for _ in range(limit))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                return self._free_descriptor(error)
            return False  # EINVAL: the listener was shut down and is empty
        return True

    def _free_descriptor(self, error: OSError) -> bool:
        """Close the spare descriptor, shed a connection, or else pause; return whether a descriptor is free."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            return True
        if self._shed():
            return True
        self._pause(error.strerror or str(error))
        return False

    def _shed(self) -> bool:
        now, limits = self._clock(), self._limits
        connection = self.connections.to_shed(now - limits.crowded_seconds, now - limits.many_peers_seconds)
        if connection is None:
            return False
        self._handler.drop(connection, DropReason.SHED)
        return True

    def _pause(self, reason: str) -> None:
        if self._retry is None:
            self._watch_listeners(0)
            self._observer.accepting_paused(reason)
            self._retry = self._loop.call_later(self._limits.accept_retry_seconds, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self._watch_listeners(select.EPOLLIN)

    def _watch_listeners(self, events: int) -> None:
        for descriptor in self._listeners:
            self._handler.epoll.modify(descriptor, events)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        ends = self._clock() + seconds
        while not condition():
            if self._clock() >= ends:
                return False
            await asyncio.sleep(_DRAIN_LOOK_SECONDS)
        return True


def _accept_one(listener: socket.socket) -> socket.SocketType:
    """Accept like `listener.accept()`, without its enum look-ups, which cost 4 µs of the 90 µs that a quote takes."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined] # noqa: SLF001
    return socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
