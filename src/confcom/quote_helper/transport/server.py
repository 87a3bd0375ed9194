"""The AESM sockets: one request per connection, a deadline for each of its stages, and answers in one write.

Connections are plain sockets in an epoll of the server's own, which the event loop watches as one descriptor: most of
them are accepted, read, answered and closed without ever waiting (docs/adr/0005-plain-sockets.md).
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Callable

from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.transport.acceptor import Acceptor
from confcom.quote_helper.transport.connection_handler import ConnectionHandler
from confcom.quote_helper.transport.observer import Observer
from confcom.quote_helper.transport.peers import PeerIdentifier

_logger = logging.getLogger(__name__)


class AesmServer:
    """Serves listening sockets, which it does not own, and knows no path. All of them share one table of connections.

    Made and closed in the running event loop.

    Args:
        service: makes the answers.
        observer: is told of everything.
        identify: names the peer of each connection.
        limits: deadlines and caps.
        clock: monotonic seconds, finer than uvloop's own, which counts milliseconds.
    """

    def __init__(
        self,
        *,
        service: QuoteService,
        observer: Observer,
        identify: PeerIdentifier,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._identify = identify
        self._limits = limits
        self._clock = clock
        self._changed = asyncio.Event()
        self._awaited = False
        self._epoll = select.epoll()
        self._handler = ConnectionHandler(
            epoll=self._epoll,
            service=service,
            observer=observer,
            changed=self._connections_changed,
            limits=limits,
            clock=clock,
        )
        self._acceptor = Acceptor(
            epoll=self._epoll,
            room=self._room,
            shed=lambda: self._handler.shed(clock() - limits.crowded_seconds),
            admit=self._admit,
            paused=observer.accepting_paused,
            limits=limits,
            clock=clock,
        )
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._take_turn)

    @property
    def accepted(self) -> int:
        """How many connections were made since the start."""
        return self._handler.admitted

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._handler.open

    @property
    def unread(self) -> int:
        """How many of them have their answer, which the client has not read."""
        return self._handler.unread

    @property
    def client_memory(self) -> int:
        """How many bytes are held for clients: received, and sent but not read."""
        return self._handler.memory

    def add_listener(self, listener: socket.socket) -> None:
        """Serve a listening socket too; it stays the caller's to close, after `remove_listener`."""
        self._acceptor.add(listener)

    def remove_listener(self, listener: socket.socket) -> None:
        """Serve it no more: who had connected by now is still served, who comes later is refused by the kernel."""
        self._acceptor.remove(listener)

    async def stop_accepting(self, after_seconds: float) -> None:
        """Go on for a while, for those who had found the path before it went; then serve no listener any more."""
        await asyncio.sleep(after_seconds)
        for listener in self._acceptor.listeners:
            self.remove_listener(listener)

    async def drain(self) -> None:
        """Wait until what has arrived is answered; requests that are not complete have a moment to become so."""
        await self._until(lambda: not self._handler.unserved, self._limits.receive_drain_seconds)
        while self._handler.unserved:
            self._handler.drop_unserved()
            # Others have the loop: to close thousands takes a tenth of a second.
            await asyncio.sleep(0)
        if not await self._until(lambda: not self._handler.unanswered, self._limits.drain_seconds):
            _logger.warning("requests were left unanswered", extra={"connections": self._handler.unanswered})

    def close(self) -> None:
        """Close every connection at once; listeners are left alone, and served no more."""
        self._handler.close()
        # After the connections, each of whose ends may reopen its reserve.
        self._acceptor.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _take_turn(self) -> None:
        # Connections before listeners: what is accepted may get the descriptor of one that ends here.
        for descriptor in list(self._handler.poll()):
            self._acceptor.accept_from(descriptor)

    def _room(self) -> int:
        # A connection whose answer is not read takes no place: nobody could free it. Its memory is bounded.
        return self._limits.max_connections - self._handler.unanswered

    def _admit(self, sock: socket.SocketType) -> None:
        self._handler.admit(sock, self._identify(sock))

    def _connections_changed(self) -> None:
        if self._awaited:
            self._changed.set()
        if self._acceptor.hindered:
            self._acceptor.go_on()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        self._awaited = True
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True
