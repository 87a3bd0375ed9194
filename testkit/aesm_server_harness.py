"""The server alone on real sockets, with peers of the test's own."""

import asyncio
import contextlib
import os
import socket
import time

from confcom.aesm.message_codec import decode_response
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.transport.peers import Peer
from confcom.quote_helper.transport.server import AesmServer
from testkit.waiting import until


class Recorder:
    """An observer that can be asked, and waited for; it is told its server after that was made."""

    def __init__(self):
        self.server = None
        self.events = []

    @property
    def total(self):
        return self.server.accepted

    @property
    def open(self):
        return self.server.connections

    def answered(self, peer, request, response, seconds):
        self._tell("answered", peer.key, response.error_code)

    def dropped(self, peer, reason):
        self._tell("dropped", peer.key, reason)

    def malformed(self, peer, violation):
        self._tell("malformed", peer.key, None)

    def accepting_paused(self, reason):
        self._tell("paused", None, reason)

    def _tell(self, *event):
        self.events.append(event)

    def count(self, what, key=None, detail=None):
        return sum(event[0] == what and key in (None, event[1]) and detail in (None, event[2]) for event in self.events)

    async def until(self, condition):
        await until(condition)


class Harness:
    """A server whose peers are told apart by the abstract name that a client bound."""

    def __init__(self, path, provider, send_buffer=None, **limits):
        self.path = str(path)
        self.observer = Recorder()
        self.send_buffer = send_buffer
        limits = HelperLimits(**limits)
        clock = time.perf_counter
        self.service = QuoteService(
            stale=StaleTargetPolicy(0, clock),
            failure_log=LogLimiter(60, clock),
            limits=limits,
            clock=clock,
        )
        if provider is not None:
            self.service.provide(provider)
        self.server = AesmServer(
            service=self.service, observer=self.observer, identify=self.identify, limits=limits, clock=clock
        )
        self.observer.server = self.server
        self.listener = self.listen(self.path)
        self.clients = []

    def listen(self, path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(4096)
        self.server.add_listener(listener)
        return listener

    def identify(self, sock):
        if self.send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        name = sock.getpeername()
        return Peer(name[1:].partition(b" ")[0].decode() if name else "", 0, 0)

    def connect(self, peer, data=b"", path=None):
        client = socket.socket(socket.AF_UNIX)
        self.clients.append(client)
        client.bind(b"\0" + f"{peer} {os.getpid()} {id(self)} {len(self.clients)}".encode())
        client.connect(str(path or self.path))
        client.setblocking(False)
        if data:
            client.send(data)
        return client

    async def read(self, client):
        answer = b""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionResetError):
                while chunk := await asyncio.get_running_loop().sock_recv(client, 200_000):
                    answer += chunk
        return answer

    async def ask(self, peer, frame, kind):
        answer = await self.read(self.connect(peer, frame))
        return decode_response(answer[4:], kind)

    def close(self):
        self.server.close()
        self.service.close()
        self.listener.close()
        for client in self.clients:
            client.close()
