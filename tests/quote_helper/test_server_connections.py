"""The server alone on real sockets, with peers of the test's own: who is shed, who is served, what ends when."""

import asyncio
import contextlib
import os
import resource
import socket
import time
from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import GetQuoteExRequest, GetQuoteSizeExRequest, GetSupportedAttKeyIdNumRequest
from confcom.daemon.logs import LogLimiter
from confcom.daemon.worker import WorkerPool
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.peers import Peer
from confcom.quote_helper.server import AesmServer
from confcom.quote_helper.service import QuoteService
from confcom.quote_helper.stale_target import StaleTargetPolicy
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

KEY_ID = ECDSA_P256_KEY_ID.encode()
NUM = encode_frame(encode_request(GetSupportedAttKeyIdNumRequest()))
SIZE = encode_frame(encode_request(GetQuoteSizeExRequest(att_key_id=KEY_ID)))
GARBAGE = (b"\xff" * 16, b"\x04\0\0\0" + b"\xff" * 4, b"\0" * 8)
"""A length that is too large, a body that is not protobuf, a length of 0."""


class Recorder:
    """An observer that can be asked, and waited for."""

    def __init__(self):
        self.open = 0
        self.total = 0
        self.events = []
        self.changed = asyncio.Event()

    def accepted(self, peer):
        self.open += 1
        self.total += 1
        self.changed.set()

    def closed(self, peer):
        self.open -= 1
        self.changed.set()

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
        self.changed.set()

    def count(self, what, key=None, detail=None):
        return sum(event[0] == what and key in (None, event[1]) and detail in (None, event[2]) for event in self.events)

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Harness:
    """A server whose peers are told apart by the abstract name that a client bound."""

    def __init__(self, path, provider, send_buffer=None, **limits):
        self.path = str(path)
        self.observer = Recorder()
        self.send_buffer = send_buffer
        limits = HelperLimits(**limits)
        clock = time.perf_counter
        self.service = QuoteService(
            workers=WorkerPool("test"),
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


@pytest.fixture
async def serve(short_dir):
    started = []

    def start(provider, **options):
        harness = Harness(short_dir / f"s{len(started)}", provider, **options)
        started.append(harness)
        return harness

    yield start
    for harness in started:
        harness.close()


async def test_the_peer_that_holds_most_loses_its_oldest_and_nobody_else_anything(serve, provider):
    harness = serve(provider, max_connections=10)
    lone = harness.connect("lone")
    await harness.observer.until(lambda: harness.observer.open == 1)
    greedy = []
    for number in range(30):
        greedy.append(harness.connect("greedy"))
        await harness.observer.until(lambda n=number: harness.observer.total == n + 2)
    assert harness.observer.count("dropped", "greedy", "shed") == 21
    assert harness.observer.count("dropped", "lone") == 0
    assert await harness.read(greedy[20]) == b""
    lone.send(NUM)
    greedy[21].send(NUM)
    assert await harness.read(lone) != b""
    assert await harness.read(greedy[21]) != b""


async def test_without_one_that_may_go_accepting_pauses_until_one_has_ended(serve, provider):
    harness = serve(provider, max_connections=3)
    held = [harness.connect(f"peer{number}") for number in range(4)]
    await harness.observer.until(lambda: harness.observer.open == 4)
    late = harness.connect("late", NUM)
    await harness.observer.until(lambda: harness.observer.count("paused"))
    turns = 0
    take_turn = harness.server._take_turn

    def counted():
        nonlocal turns
        turns += 1
        take_turn()

    # Nothing spins meanwhile: the loop goes round, the server is not called.
    asyncio.get_running_loop().add_reader(harness.server._epoll.fileno(), counted)
    for _ in range(50):
        await asyncio.sleep(0)
    assert turns <= 1
    assert (harness.observer.total, harness.observer.count("dropped")) == (4, 0)
    held[0].close()
    held[1].close()
    assert await harness.read(late) != b""


async def test_a_flood_delays_another_peer_by_turns_and_not_by_its_queue(serve, provider):
    def work():
        ends = time.perf_counter() + 0.0005
        while time.perf_counter() < ends:
            pass

    provider.before = work
    harness = serve(provider)
    served = []
    answered = harness.observer.answered
    harness.observer.answered = lambda peer, *rest: (served.append(peer.key), answered(peer, *rest))
    for _ in range(600):
        harness.connect("flood", SIZE)
    quiet = harness.connect("quiet", SIZE)
    assert decode_response((await harness.read(quiet))[4:], GetQuoteSizeExRequest.KIND).error_code == 0
    await harness.observer.until(lambda: len(served) == 601)
    # First come first served would be place 600; calls go on while the kernel's backlog is accepted.
    assert served.index("quiet") < 300


async def test_a_flood_for_a_blocking_provider_delays_another_peer_by_one_call(serve, blocking_provider):
    harness = serve(None, waiting_per_peer=50)
    floods = [harness.connect("flood", SIZE) for _ in range(60)]
    await harness.observer.until(lambda: harness.observer.count("answered", "flood", AesmErrorCode.BUSY) == 10)
    quiet = harness.connect("quiet", SIZE)
    await harness.observer.until(lambda: harness.observer.total == 61)
    assert harness.service.waiting == 51
    assert (await harness.ask("flood", NUM, GetSupportedAttKeyIdNumRequest.KIND)).error_code == 0
    harness.service.provide(blocking_provider)
    assert await harness.read(quiet) != b""
    assert harness.observer.count("answered", "flood", AesmErrorCode.SUCCESS) <= 4
    for client in floods:
        assert await harness.read(client) != b""


async def test_five_thousand_idle_connections_of_one_peer_and_another_is_served(serve, provider):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20_000:
        pytest.skip(f"needs 20,000 file descriptors, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, hard))
    try:
        harness = serve(provider)
        for number in range(5000):
            harness.connect("idle")
            if number % 500 == 0:
                assert (await harness.ask("good", SIZE, GetQuoteSizeExRequest.KIND)).error_code == 0
        await harness.observer.until(lambda: harness.observer.count("dropped", "idle", "shed") >= 904)
        assert (await harness.ask("good", SIZE, GetQuoteSizeExRequest.KIND)).error_code == 0
        assert harness.observer.open <= 4096
        assert harness.observer.count("dropped", "good") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_header_sent_byte_by_byte_ends_at_its_deadline_and_holds_up_nobody(serve, provider):
    harness = serve(provider, first_byte_seconds=0.05, whole_request_seconds=0.1)
    slow = harness.connect("slow", NUM[:1])
    for _ in range(20):
        assert (await harness.ask("good", NUM, GetSupportedAttKeyIdNumRequest.KIND)).error_code == 0
    assert await harness.read(slow) == b""
    assert harness.observer.count("dropped", "slow", "timeout") == 1


async def test_a_client_that_never_reads_is_closed_and_one_that_reads_late_gets_all(serve, provider, enclave):
    harness = serve(provider, send_buffer=4096, write_seconds=0.2)
    report = enclave.create_report(provider.identity().target_info, bytes(64))
    frame = encode_frame(encode_request(GetQuoteExRequest(report.encode(), 65536, att_key_id=KEY_ID)))
    harness.connect("never", frame)
    late = harness.connect("late", frame)
    await harness.observer.until(lambda: harness.observer.total == 2)
    assert len(decode_response((await harness.read(late))[4:], GetQuoteExRequest.KIND).quote) == 65536
    await harness.observer.until(lambda: harness.observer.count("dropped", "never", "write_timeout") == 1)
    assert harness.observer.count("answered", "late", 0) == 1
    assert harness.observer.open == 0


async def test_who_had_connected_is_served_when_a_listener_goes_and_others_still_listen(serve, provider, short_dir):
    harness = serve(provider)
    second = harness.listen(str(short_dir / "second"))
    waiting = [harness.connect("early", NUM) for _ in range(100)]
    harness.server.remove_listener(harness.listener)
    with pytest.raises(ConnectionRefusedError):
        harness.connect("late")
    for client in waiting:
        assert await harness.read(client) != b""
    assert await harness.read(harness.connect("other", NUM, short_dir / "second")) != b""
    harness.server.remove_listener(second)
    second.close()


@pytest.mark.slow
async def test_a_hundred_thousand_garbage_connections_leave_nothing_behind(serve, provider):
    harness = serve(provider)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    async def send_garbage(rounds):
        for number in range(rounds):
            due = harness.observer.total + 200
            clients = [socket.socket(socket.AF_UNIX) for _ in range(200)]
            for client in clients:
                client.connect(harness.path)
                client.send(GARBAGE[number % len(GARBAGE)])
            await harness.observer.until(lambda due=due: harness.observer.total == due and harness.observer.open == 0)
            for client in clients:
                client.close()
            assert harness.observer.count("malformed") == len(clients)
            harness.observer.events.clear()

    await send_garbage(50)
    before = resident()
    await send_garbage(450)
    assert harness.observer.total == 100_000
    assert (len(harness.server._watched), harness.server.connections) == (0, 0)
    assert resident() - before < 8 << 20
