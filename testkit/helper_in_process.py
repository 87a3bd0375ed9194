"""Runs the quote helper, only its server, or only its socket keeper in the test's process."""

import asyncio
import concurrent.futures
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

from prometheus_client import CollectorRegistry

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import GetQuoteSizeExRequest, GetSupportedAttKeyIdNumRequest, InitQuoteExRequest
from confcom.aesm.session import encode_frame
from confcom.daemon.logs import LogLimiter
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.main import QuoteHelper
from confcom.quote_helper.quoting.service import call_of
from confcom.quote_helper.quoting.simulated_backend import run_self_test
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.settings import parse_settings
from confcom.quote_helper.takeover.socket_access import SocketAccess
from confcom.quote_helper.takeover.socket_keeper import SocketKeeper
from confcom.quote_helper.takeover.takeover_policy import TOKEN_BITS, Instance
from confcom.quote_helper.transport.handler import ConnectionHandler
from confcom.quote_helper.transport.peers import Peer
from confcom.quote_helper.transport.server import AesmServer
from confcom.quote_provider.base import Backend
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.sgx.certificates import key_id
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.conditions import until

WAIT_SECONDS = 30
KEY_ID = ECDSA_P256_KEY_ID.encode()
INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY_ID, buf_size=32)
SIZE = GetQuoteSizeExRequest(att_key_id=KEY_ID)
NUM = GetSupportedAttKeyIdNumRequest()
QUICK_LIMITS = {"accept_drain_seconds": 0.01, "self_test_retry_seconds": (0.005,)}
ENCLAVE = SimulatedEnclave.from_name("test")
PLATFORM = SimulatedPlatform.create(bytes(32), datetime.now(UTC).replace(microsecond=0))


def frame(request):
    return encode_frame(encode_request(request))


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


class TestProvider:
    """A simulated provider that blocks, fails, or is not ready if a test wants this."""

    __test__ = False

    def __init__(self, *, waits=False):
        self._inner = SimulatedQuoteProvider(PLATFORM, DEFAULT_QE_IDENTITY)
        self.waits = waits
        self.max_concurrent_calls = 1
        self.before = lambda: None
        self.calls = 0
        self.last_identity = self._inner.last_identity
        self.last_quote_size = self._inner.last_quote_size

    def identity(self):
        return self._do(self._inner.identity)

    def quote_size(self):
        return self._do(self._inner.quote_size)

    def quote(self, report, qe_report_info):
        return self._do(self._inner.quote, report, qe_report_info)

    @property
    def in_loop(self):
        return CallsInLoop(self) if self.waits else None

    def _do(self, call, *arguments):
        self.calls += 1
        self.before()
        return call(*arguments)

    def hold(self):
        """Make provider calls wait until the returned event is set."""
        release = threading.Event()
        self.before = release.wait
        return release

    def fail(self, error):
        self.before = Mock(side_effect=error)

    def work(self):
        self.before = lambda: None


class CallsInLoop:
    """Runs each call of a blocking TestProvider in its own thread, so that a test can hold the calls."""

    def __init__(self, provider):
        self._provider = provider
        self.max_concurrent_calls = provider.max_concurrent_calls
        self._closed = False

    def close(self):
        self._closed = True

    def start(self, need, done):
        ended = concurrent.futures.Future()

        def run():
            try:
                ended.set_result(call_of(need, self._provider)())
            except BaseException as error:  # noqa: BLE001 # provider calls pass on any error
                ended.set_exception(error)
            if not self._closed:
                loop.call_soon_threadsafe(done, ended.result)

        loop = asyncio.get_running_loop()
        threading.Thread(target=run, daemon=True).start()


@contextlib.asynccontextmanager
async def running_helper(
    directory, provider, *, open_backend=None, handover_seconds=0, more=(), more_routes=(), **limits
):
    arguments = ["--simulated", "--state-dir", f"{directory}/state", "--socket", f"{directory}/aesm.socket"]
    arguments += ["--probe-address", f"unix:{directory}/probe", "--handover-seconds", str(handover_seconds), *more]
    settings = parse_settings(arguments, prog="test", environ={})

    def self_test():
        root, now = ExpectedRoot(key_id(PLATFORM.pki.root.certificate)), datetime.now(UTC)
        return run_self_test(provider, ENCLAVE, root, now)

    backend = Backend(provider, self_test, in_loop=provider and provider.in_loop)
    registry = CollectorRegistry()
    helper = QuoteHelper(
        settings,
        open_backend=open_backend or (lambda _: backend),
        instance=Instance(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, secrets.randbits(TOKEN_BITS)),
        clock=time.perf_counter,
        wall_clock=time.time,
        limits=HelperLimits(**(QUICK_LIMITS | limits)),
        registry=registry,
        more_routes=dict(more_routes),
    )
    running = RunningHelper(settings, helper, registry)
    running.task = asyncio.create_task(helper.run(running.stopping))
    try:
        await running.bound()
        yield running
    finally:
        running.stopping.set()
        with contextlib.suppress(BaseException):
            async with asyncio.timeout(WAIT_SECONDS):
                await running.task


class RunningHelper:
    def __init__(self, settings, helper, registry):
        self.socket = settings.socket
        self.probe = settings.probe_address.path
        self.helper = helper
        self.registry = registry
        self.stopping = asyncio.Event()
        self.task = None

    async def bound(self):
        await until(lambda: (self.socket.exists() and self.probe.exists()) or self.task.done())

    async def ready(self):
        await self.reaches("ready", 1)
        await self._page_is(200)

    async def unready(self, code):
        await self.reaches("not_ready_info", 1, code=code)
        await self._page_is(503)

    async def _page_is(self, status):
        """Wait until /readyz answers with this status, because the page may lag by some milliseconds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.get("/readyz"))[0] != status:
                pass

    def metric(self, name, **labels):
        return self.registry.get_sample_value(f"confcom_quote_helper_{name}", labels)

    async def reaches(self, name, value, **labels):
        await until(lambda: self.metric(name, **labels) == value, pause=0.001)

    async def get(self, path):
        reader, writer = await asyncio.open_unix_connection(self.probe)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()

    async def ask(self, request):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.socket))
        # The event loop does not run between connect() and this call, so no request's deadline begins.
        client.sendall(frame(request))
        reader, writer = await asyncio.open_unix_connection(sock=client)
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await reader.read()
        writer.close()
        return decode_response(answer[4:], request.kind)

    async def code(self, request):
        return (await self.ask(request)).error_code

    async def asking(self, request, connections=1):
        """Request in a task that returns the answer's code; wait until there are `connections` clients."""
        task = asyncio.create_task(self.code(request))
        await self.reaches("connections", connections)
        return task


CONNECT = """
import socket, sys
for descriptor in sys.argv[3:]:
    sock = socket.socket(fileno=int(descriptor))
    sock.connect(sys.argv[1])
    sock.send(bytes.fromhex(sys.argv[2]))
    sock.detach()
"""
"""Program of a process that connects the sockets it was given, sends a request on each, and ends."""


class RunningServer:
    """The server alone. It tells peers apart by the abstract names of their sockets, and records its events."""

    def __init__(self, path, provider, send_buffer=None, slow_peers=None, pid=0, **limits):
        self.path = str(path)
        self.events = []
        self.send_buffer = send_buffer
        self.pid = pid
        limits = HelperLimits(**limits)
        clock = time.perf_counter
        self.total = 0
        handler = ConnectionHandler(
            stale=StaleTargetPolicy(0, clock), observer=self, limits=limits, clock=clock, slow_peers=slow_peers
        )
        self.aesm = AesmServer(handler, self.identify)
        self.service = handler.service
        if provider is not None:
            self.service.provide(provider)
        self.listener = self.listen(self.path)
        self.clients = []

    open = property(lambda self: len(self.aesm.connections))
    unread = property(lambda self: len(self.aesm.connections) - self.aesm.connections.unanswered)
    memory = property(lambda self: self.aesm.connections.unread_memory)
    waiting = property(lambda self: self.service.waiting)

    def accepted(self, count):
        self.total += count

    def answered(self, peer, request, response, seconds):
        self.events.append(("answered", peer.key, response.error_code))

    def dropped(self, peer, reason):
        self.events.append(("dropped", peer.key, reason))

    def malformed(self, peer, violation):
        self.events.append(("malformed", peer.key, None))

    def accepting_paused(self, reason):
        self.events.append(("paused", None, reason))

    def count(self, what, key=None, detail=None):
        return sum(event[0] == what and key in (None, event[1]) and detail in (None, event[2]) for event in self.events)

    def listen(self, path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(4096)
        self.aesm.add_listener(listener)
        return listener

    def identify(self, sock):
        if self.send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        name = sock.getpeername()
        return Peer(name[1:].partition(b" ")[0].decode() if name else "", 0, self.pid)

    def _socket_of(self, peer):
        client = socket.socket(socket.AF_UNIX)
        self.clients.append(client)
        client.bind(b"\0" + f"{peer} {os.getpid()} {id(self)} {len(self.clients)}".encode())
        return client

    def connect(self, peer, data=b"", path=None):
        client = self._socket_of(peer)
        client.connect(str(path or self.path))
        client.setblocking(False)
        if data:
            client.send(data)
        return client

    def connect_by_an_ended_process(self, peers, data=b""):
        clients = [self._socket_of(peer) for peer in peers]
        descriptors = [client.fileno() for client in clients]
        command = [sys.executable, "-c", CONNECT, self.path, data.hex(), *map(str, descriptors)]
        subprocess.run(command, pass_fds=descriptors, check=True, timeout=WAIT_SECONDS)
        for client in clients:
            client.setblocking(False)
        return clients

    async def read(self, client):
        answer = b""
        async with asyncio.timeout(WAIT_SECONDS):
            with contextlib.suppress(ConnectionResetError):
                while chunk := await asyncio.get_running_loop().sock_recv(client, 200_000):
                    answer += chunk
        return answer

    async def ask(self, peer, request):
        answer = await self.read(self.connect(peer, frame(request)))
        return decode_response(answer[4:], request.kind)

    async def serves(self, peer, request=NUM):
        return (await self.ask(peer, request)).error_code == AesmErrorCode.SUCCESS

    def close(self):
        self.aesm.close()
        self.service.close()
        self.listener.close()
        for client in self.clients:
            client.close()


STALE_WINDOW_SECONDS = 1000
KEEPER_LIMITS = HelperLimits(socket_tick_seconds=0.005, accept_drain_seconds=0.5)


class ListenerHost:
    """Stand-in for an AesmServer that accepts connections and closes them at once."""

    def __init__(self):
        self.listeners = []

    def add_listener(self, listener):
        self.listeners.append(listener)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def remove_listener(self, listener):
        if listener in self.listeners:
            self.listeners.remove(listener)
            asyncio.get_running_loop().remove_reader(listener.fileno())

    @staticmethod
    def _accept(listener):
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()


class CountedKeeper(SocketKeeper):
    begun = ended = 0

    async def _reconcile(self):
        self.begun += 1
        error = await super()._reconcile()
        self.ended = self.begun
        return error


class RunningKeeper:
    def __init__(self, path, started, clock, *, open_to_all=False):
        self.host = ListenerHost()
        self.policy = StaleTargetPolicy(STALE_WINDOW_SECONDS, clock)
        self.changed = asyncio.Event()
        self.keeper = CountedKeeper(
            path=path,
            me=Instance(started, started),
            server=self.host,
            stale=self.policy,
            access=SocketAccess(path=path, open_to_all=open_to_all, restored_log=LogLimiter(60, time.monotonic)),
            limits=KEEPER_LIMITS,
            on_change=self.changed.set,
        )
        self.task = None

    async def start(self):
        await self.keeper.start()
        self.task = asyncio.create_task(self.keeper.run())
        return self

    async def quoting(self):
        await self.start()
        self.quote()
        return self

    def quote(self):
        self.policy.quotes_for(bytes(512))
        self.keeper.set_can_quote(can_quote=True)

    @property
    def code(self):
        """Code of the reason why the keeper does not serve; None if the keeper serves."""
        return self.keeper.problem and self.keeper.problem.code

    async def until(self, condition):
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self.code):
                self.changed.clear()
                await self.changed.wait()

    async def serves(self):
        await self.until(lambda code: code is None)

    async def waits(self, why):
        await self.until(lambda code: code == why)

    async def tick(self):
        due = self.keeper.begun + 1
        self.keeper._wake.set()
        await until(lambda: self.keeper.ended >= due)

    async def end(self):
        """End like a killed process: the sockets are closed, and the socket's path is not cleaned up."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        for listener in list(self.host.listeners):
            self.host.remove_listener(listener)
            listener.close()
