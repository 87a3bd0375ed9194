"""The AESM server: one request per connection, a deadline for each of its stages, and answers in one write.

Connections are plain sockets in the server's own epoll, which the event loop watches as one descriptor. Most
connections are accepted, read, answered and closed without ever waiting (docs/adr/0005-plain-sockets.md).
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Callable

from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.transport.acceptor import Acceptor
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.connection_handler import ConnectionHandler
from confcom.quote_helper.transport.connection_table import ConnectionTable
from confcom.quote_helper.transport.observer import Observer
from confcom.quote_helper.transport.peers import PeerIdentifier

_logger = logging.getLogger(__name__)


class AesmServer:
    """Serves listening sockets, which it does not own; all share one connection table. It knows no path.

    Must be created and closed in the running event loop. `clock` is finer than uvloop's, which counts milliseconds.
    """

    def __init__(
        self,
        *,
        service: QuoteService[Connection],
        observer: Observer,
        identify: PeerIdentifier,
        limits: HelperLimits,
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._changed = asyncio.Event()
        self._awaited = False
        self._epoll = select.epoll()
        self._table = ConnectionTable(limits)
        self._handler = ConnectionHandler(
            epoll=self._epoll,
            table=self._table,
            service=service,
            observer=observer,
            changed=self._connections_changed,
            limits=limits,
            clock=clock,
        )
        self._acceptor = Acceptor(
            epoll=self._epoll,
            table=self._table,
            handler=self._handler,
            identify=identify,
            observer=observer,
            limits=limits,
            clock=clock,
        )
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._take_turn)

    @property
    def accepted(self) -> int:
        """Number of connections accepted since the start."""
        return self._table.admitted

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._table)

    @property
    def unread(self) -> int:
        """Number of open connections whose answer was sent, and not read by the client."""
        return self._table.unread

    @property
    def client_memory(self) -> int:
        """Bytes held for clients: received, and sent but not read."""
        return self._table.memory

    def add_listener(self, listener: socket.socket) -> None:
        """Start serving a listening socket; the caller closes it after `remove_listener`."""
        self._acceptor.add(listener)

    def remove_listener(self, listener: socket.socket) -> None:
        """Stop serving a listening socket: serve its backlog; the kernel refuses later connections."""
        self._acceptor.remove(listener)

    async def stop_accepting(self, after_seconds: float) -> None:
        """Accept for `after_seconds` more, for clients that found the path before its removal; then stop."""
        await asyncio.sleep(after_seconds)
        for listener in self._acceptor.listeners:
            self.remove_listener(listener)

    async def drain(self) -> None:
        """Wait until complete requests are answered; incomplete ones get `receive_drain_seconds` to complete."""
        await self._until(lambda: not self._table.sheddable, self._limits.receive_drain_seconds)
        while self._table.sheddable:
            self._handler.drop_unserved()
            # Yield to the loop: closing thousands takes a tenth of a second.
            await asyncio.sleep(0)
        if not await self._until(lambda: not self._table.unanswered, self._limits.drain_seconds):
            _logger.warning("requests were left unanswered", extra={"connections": self._table.unanswered})

    def close(self) -> None:
        """Close every connection at once and stop serving listeners, without closing those."""
        self._handler.close()
        # After the handler: each connection that ends may make the acceptor reopen its reserve.
        self._acceptor.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _take_turn(self) -> None:
        # Connections before listeners: an accepted socket may reuse the descriptor of a connection that ends here.
        for descriptor in list(self._handler.poll()):
            self._acceptor.accept_from(descriptor)

    def _connections_changed(self) -> None:
        if self._awaited:
            self._changed.set()
        if self._acceptor.needs_resume:
            self._acceptor.resume()

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
