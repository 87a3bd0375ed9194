import asyncio
import contextlib
import socket
import threading

import pytest
import uvloop

from confcom.client import AesmClient, AsyncAesmClient


@pytest.fixture
def socket_path(short_dir):
    """Path of a socket; the fixture `aesmd` serves there."""
    (short_dir / "private").mkdir(exist_ok=True)
    return short_dir / "private" / "aesm.socket"


class Listener:
    """A server in a thread. Each connection gets the next handler, and the last handler serves all others."""

    def __init__(self, path, *handlers):
        self.connections = 0
        self._handlers = list(handlers)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            handler = self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0]
            with connection, contextlib.suppress(ConnectionError):
                handler(connection)

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def listen(socket_path):
    listeners = []

    def start(*handlers):
        listeners.append(Listener(socket_path, *handlers))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def sending():
    def make(*pieces):
        def handle(connection):
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)

        return handle

    return make


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def ask(request, socket_path):
    """Calls a method of a client, such as ask("init_quote") or ask("get_quote", report, timeout=1)."""

    def call(method, *args, timeout=15.0, path=socket_path, **kwargs):
        if request.param == "blocking":
            return getattr(AesmClient(path, timeout=timeout), method)(*args, **kwargs)
        loop_factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(getattr(AsyncAesmClient(path, timeout=timeout), method)(*args, **kwargs))

    return call
