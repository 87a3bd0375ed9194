"""HTTP server that limits connections. Each connection has its own thread, one request, and deadlines."""

import contextlib
import io
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

from confcom.errors import SettingsError, UnavailableError
from confcom.simulated_pcs.answers import Answer

MAX_CONNECTIONS: Final = 64
"""Concurrent connections, with a thread each. A verifier uses one connection. Further connections wait in the
kernel's queue until a connection ends or exceeds its deadline."""
BACKLOG: Final = 128
"""Limit of the connections that the kernel queues until the server accepts them."""
DEADLINE_SECONDS: Final = 5.0
"""Seconds for the TLS handshake, for reading the request, and for a write. Slow clients need one second."""
MAX_REQUEST_BYTES: Final = 8192
"""Limit of request line and headers in bytes; usual requests have up to 300, many servers allow 8 KiB."""
POLL_SECONDS: Final = 0.1
"""Seconds between checks for shutdown. While all connections are in use, a check waits for the end of one."""

_END_OF_HEAD: Final = b"\r\n\r\n"

Answers = Callable[[str], Answer]
Log = Callable[[str], None]


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Load the server's certificate and its key, which may be in the same file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # If the key is encrypted, OpenSSL would prompt; the empty password makes OpenSSL fail instead.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise SettingsError(
            f"{certificate} is no certificate with its key",
            error_code="serving-certificate",
            why=error.strerror or str(error),
            remedy="give PEM files, the key without a password: --tls-cert FILE --tls-key FILE",
        ) from error
    return context


class Server(socketserver.ThreadingTCPServer):
    """Answers GET requests. An empty host means all addresses of this machine, and port 0 any free port."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(
        self,
        host: str,
        port: int,
        answers: Answers,
        *,
        log: Log,
        count: Log = lambda _: None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.answers = answers
        self.log = log
        self.count = count
        self.deadline_seconds = deadline_seconds
        self._tls = tls
        self._places = threading.BoundedSemaphore(max_connections)
        host = host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104 # no host means all
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), Handler)
        except OSError as error:
            raise UnavailableError(
                f"nothing can be served at port {port} of {host}",
                error_code="serving-address-not-available",
                why=error.strerror or str(error),
                remedy="give --address a free port of this machine, such as 127.0.0.1:8082",
            ) from error

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        place = f"[{host!s}]" if self.address_family == socket.AF_INET6 else str(host)
        return f"{'https' if self._tls else 'http'}://{place}:{port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Answer requests in a thread while the block runs; then close, even if connections are open."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": POLL_SECONDS})
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # the library's types
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # the library's types
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # the library's types
        """Do the TLS handshake, if any, in the connection's own thread, then serve the request."""
        request.settimeout(self.deadline_seconds)
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 # the library's types
        """Log errors of this program only. An OSError means that the client disconnected or speaks no TLS."""
        del request
        error = sys.exception()
        if not isinstance(error, OSError):
            self.log(f"{client_address[0]} failed: {error!r}")


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def version_string(self) -> str:
        return "confcom"

    def setup(self) -> None:
        """Read the request's head under one deadline. Reading by lines would restart the deadline with each piece."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO(self._head())

    def _head(self) -> bytes:
        head, until = b"", time.monotonic() + self.server.deadline_seconds
        while _END_OF_HEAD not in head:
            self.connection.settimeout(max(until - time.monotonic(), 0.001))
            piece = self.connection.recv(MAX_REQUEST_BYTES)
            head += piece
            if not piece or len(head) > MAX_REQUEST_BYTES:
                raise ConnectionAbortedError
        self.connection.settimeout(self.server.deadline_seconds)
        return head

    def do_GET(self) -> None:
        answer = self.server.answers(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Count requests by the answer's status, and do not log them, as logs could fill the node's disk."""
        del size
        self.server.count(str(code.value if isinstance(code, HTTPStatus) else code))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the library's name
        """Do not log requests that the library refuses, because the answer has the reason."""
