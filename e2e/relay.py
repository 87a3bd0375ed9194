"""A server that passes connections on to a port of this machine."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator


class Relay(socketserver.ThreadingTCPServer):
    """Passes connections on, directly or as an HTTP proxy with CONNECT; counts the bytes that come back."""

    daemon_threads = True

    def __init__(self, to_port: int, *, asks: bool = False, address: str = "127.0.0.1") -> None:
        self.to_port = to_port
        self.asks = asks
        self.asked: list[str] = []
        self.received = 0
        super().__init__((address, 0), _Connection)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @contextlib.contextmanager
    def serving(self) -> Iterator[Relay]:
        thread = threading.Thread(target=self.serve_forever)
        with self:
            thread.start()
            try:
                yield self
            finally:
                self.shutdown()
                thread.join()


class _Connection(socketserver.BaseRequestHandler):
    server: Relay
    request: socket.socket

    def handle(self) -> None:
        if self.server.asks:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.request.recv(1)
            self.server.asked.append(head.splitlines()[0].decode())
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.to_port)) as there:
            back = threading.Thread(target=self._return, args=(there,))
            back.start()
            for part in _parts(self.request, there):
                there.sendall(part)
            back.join()

    def _return(self, there: socket.socket) -> None:
        for part in _parts(there, self.request):
            self.server.received += len(part)
            with contextlib.suppress(OSError):  # the asking program has ended
                self.request.sendall(part)


def _parts(source: socket.socket, target: socket.socket) -> Iterator[bytes]:
    """Pass on data from a source; when the source ends, also close the target's sending half."""
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            yield part
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
