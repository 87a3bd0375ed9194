"""Bounds on memory that clients can make the helper hold by endless requests and unread answers."""

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import socket
import sys
import termios
from itertools import pairwise
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.message_codec import decode_response
from confcom.aesm.messages import GetQuoteExRequest
from confcom.aesm.session import MAX_REQUEST_SIZE
from confcom.quote_helper.limits_and_deadlines import PEERS, POOL_PART, UNREAD_OVERHEAD, UNREAD_RESERVE, HelperLimits
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.connections import Connections
from confcom.quote_helper.transport.handler import EVENTS_PER_TURN, ConnectionHandler
from testkit.conditions import until
from testkit.helper_in_process import KEY_ID, NUM, SIZE, WAIT_SECONDS, frame

ASKS_NUM, ASKS_SIZE = frame(NUM), frame(SIZE)
LARGEST = 16_384
PODS = 110
"""Most Pods on a node by the kubelet's default."""
UNREAD = HelperLimits().unread_memory
INCOMPLETE = MAX_REQUEST_SIZE.to_bytes(4, "little") + bytes(8_000)


@pytest.fixture
def quote_request(provider, enclave):
    report = enclave.create_report(provider.identity().target_info, bytes(64)).encode()
    return lambda buf_size=LARGEST: GetQuoteExRequest(report, buf_size, att_key_id=KEY_ID)


@pytest.fixture
def asks_quote(quote_request):
    return frame(quote_request())


def code_of(answer, kind=GetQuoteExRequest.kind):
    return decode_response(answer[4:], kind).error_code


def fails_once(method):
    """Return a method whose first call raises a MemoryError, and whose later calls do as before."""
    errors = [MemoryError()]

    def call(*arguments):
        if errors:
            raise errors.pop()
        return method(*arguments)

    return call


def unread_by(clients):
    return sum(
        int.from_bytes(fcntl.ioctl(each.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder) for each in clients
    )


async def settled():
    for _ in range(10):
        await asyncio.sleep(0.002)


# Tests of unread answers.


async def test_unread_answers_are_bounded_and_others_get_theirs(serve, provider, quote_request, asks_quote):
    server = serve(provider)
    greedy = []
    for _ in range(5):
        greedy += [server.connect("greedy", asks_quote) for _ in range(40)]
        assert await server.serves("good", quote_request(8192))
        await settled()
    assert UNREAD // 8 < unread_by(greedy) < UNREAD // 4
    assert await server.serves("good", quote_request())


async def test_pods_that_burst_and_sleep_leave_each_other_a_quote(serve, provider, quote_request, asks_quote):
    """The awake Pods get quotes before the server can find out that the other Pods leave answers unread."""
    server = serve(provider, peer_wait_seconds=0.5)
    asleep = [server.connect(f"pod{number}", asks_quote) for _ in range(12) for number in range(PODS)]
    small, large = server.connect("awake", frame(quote_request(8192))), server.connect("late", asks_quote)
    for client in (small, large):
        assert code_of(await server.read(client)) == AesmErrorCode.SUCCESS
    await until(lambda: all(unread_by([each]) > UNREAD_RESERVE // 2 for each in asleep[:PODS]))
    assert UNREAD // 2 < unread_by(asleep) <= UNREAD
    for _ in range(10):
        assert await server.serves("awake", quote_request(8192))


async def test_paused_peers_are_not_read_and_few_are_looked_at(serve, provider, quote_request, asks_quote, monkeypatch):
    """There may be thousands of paused connections, so the server must look at few of them per step."""
    server = serve(provider, peer_wait_seconds=3600.0)
    for number in range(PODS):
        for _ in range(10):
            server.connect(f"pod{number}", asks_quote)
    await until(lambda: server.total == 10 * PODS and server.waiting == 0)
    await settled()
    assert sum(not each.complete for each in server.aesm.connections) > 3 * PODS, "they are not read"
    looked_at = Mock(wraps=server.aesm.connections._allow_step)
    monkeypatch.setattr(Connections, "_allow_step", lambda _, *step: looked_at(*step))
    for _ in range(10):
        assert await server.serves("awake", quote_request(8192))
    assert 0 < looked_at.call_count < 2 * PODS


async def test_what_all_may_leave_unread_is_never_passed(serve, provider, asks_quote):
    """The limit on unread answers also holds if there are more peers than reserves."""
    server = serve(provider, peer_wait_seconds=0.1)
    clients = []
    for peer in range(800):
        clients.append(server.connect(f"greedy{peer}", asks_quote))
        if peer % 50 == 0:
            await settled()
            assert unread_by(clients) <= UNREAD
    await settled()
    assert UNREAD * 3 // 4 < unread_by(clients) <= UNREAD


@pytest.fixture
def nobody_looks(monkeypatch):
    """Delay checks of whether clients have read their answers; no such check runs during the test."""
    monkeypatch.setattr("confcom.quote_helper.transport.handler.READ_SECONDS", 3600.0)


async def read_once(client):
    """Read an answer, which the server sends with one call, but do not wait for the end of the stream."""
    async with asyncio.timeout(WAIT_SECONDS):
        return await asyncio.get_running_loop().sock_recv(client, 65_536)


@pytest.mark.usefixtures("nobody_looks")
async def test_a_peer_at_its_limits_gives_back_what_it_read_at_once(serve, provider, asks_quote):
    """Other peers hold so much of the pool that only one more answer fits at a time."""
    server = serve(provider)
    for _ in range(90):
        for number in range(5):
            server.connect(f"greedy{number}", asks_quote)
    await settled()
    for client in [server.connect("good", asks_quote) for _ in range(16)]:
        assert len(await read_once(client)) > LARGEST
    for _ in range(3):
        assert len(await read_once(server.connect("good", asks_quote))) > LARGEST


@pytest.mark.usefixtures("nobody_looks")
async def test_a_connection_that_waited_for_its_request_is_watched_on(serve, provider):
    server = serve(provider)
    client = server.connect("late", ASKS_NUM[:5])
    await until(lambda: server.open == 1)
    client.sendall(ASKS_NUM[5:])
    assert await server.read(client) != b""
    assert server.open == 0


async def test_what_waits_too_long_for_its_own_peer_is_busy(serve, provider, quote_request, asks_quote):
    """The server may send the small refusal to a peer whose limit has no room for a whole quote."""
    three_and_a_half = POOL_PART * (7 * (LARGEST + UNREAD_OVERHEAD) // 2 - UNREAD_RESERVE)
    server = serve(provider, peer_wait_seconds=0.1, unread_memory=PEERS * UNREAD_RESERVE + three_and_a_half)
    for _ in range(4):
        server.connect("greedy", asks_quote)
    await settled()
    assert (await server.ask("greedy", quote_request())).error_code == AesmErrorCode.BUSY
    assert server.count("answered", "greedy", AesmErrorCode.SUCCESS) == 3


async def test_a_request_that_may_not_even_be_refused_is_dropped(serve, provider):
    server = serve(provider, unread_memory=2 * UNREAD_RESERVE, peer_wait_seconds=0.1)
    for _ in range(UNREAD_RESERVE // UNREAD_OVERHEAD):
        server.connect("greedy", ASKS_NUM)
    await settled()
    assert await server.read(server.connect("greedy", ASKS_NUM)) == b""
    assert server.count("dropped", "greedy", "over_share") >= 1
    assert await server.serves("other")


async def test_refusals_that_repeat_a_request_take_no_reserve(serve, provider):
    """Peers that leave refusals unread hold the whole pool, but cannot hold another peer's reserve."""
    server = serve(provider, peer_wait_seconds=0.1)
    refused = frame(GetQuoteExRequest(b"", 0, att_key_id=KEY_ID, qe_report_info=bytes(7_500)))
    for _ in range(90):
        for number in range(8):
            server.connect(f"greedy{number}", refused)
    await settled()
    assert await server.serves("good")


async def test_too_many_waiting_requests_of_one_peer_are_busy(serve, provider):
    server = serve(None, max_waiting=10, peer_wait_seconds=0.2)
    for _ in range(20):
        server.connect("greedy", ASKS_SIZE)
    await until(lambda: server.total == 20)
    quiet = server.connect("quiet", ASKS_SIZE)
    await until(lambda: server.total == 21)
    assert server.waiting == 6
    server.service.provide(provider)
    assert await server.read(quiet) != b""


async def test_who_leaves_without_a_request_makes_no_room_for_others(serve):
    server = serve(None, max_waiting=10)
    for _ in range(20):
        server.connect("gone").close()
    await until(lambda: server.total == 20 and server.open == 0)
    for _ in range(20):
        server.connect("greedy", ASKS_SIZE)
    await until(lambda: server.total == 40)
    assert server.waiting == 5


async def test_who_closes_unread_or_reads_by_pieces_gives_back(serve, provider, asks_quote):
    server = serve(provider)
    closing, slow = server.connect("closing", asks_quote), server.connect("slow", asks_quote)
    await until(lambda: server.unread == 2)
    await settled()
    assert server.memory >= 2 * LARGEST
    closing.close()
    await until(lambda: server.open == 1)
    answer = b""
    while len(answer) < LARGEST:
        answer += slow.recv(1000)
        assert server.memory >= LARGEST, "the kernel frees the answer when it was read to its end"
    with contextlib.suppress(BlockingIOError):
        while chunk := slow.recv(1000):
            answer += chunk
    assert code_of(answer) == AesmErrorCode.SUCCESS
    await until(lambda: server.open == 0)
    assert server.memory == 0


async def test_answers_that_are_not_read_delay_no_stop(serve, provider):
    server = serve(provider, drain_seconds=3600.0)
    client = server.connect("late", ASKS_NUM)
    await until(lambda: server.unread == 1)
    await asyncio.wait_for(server.aesm.drain(), 30)
    assert client.recv(1000) != b""


async def test_who_sends_on_while_it_waits_is_not_read(serve):
    server = serve(None)
    client = server.connect("talkative", ASKS_SIZE)
    await until(lambda: server.waiting == 1)

    def fill():
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += client.send(bytes(65536))
        return sent

    assert fill() > 0
    for _ in range(10):
        assert await server.serves("other")
    assert fill() == 0


@pytest.mark.parametrize("size", [7, 566, 2_500, 8_201, 13_346, LARGEST])
def test_what_is_counted_covers_what_the_kernel_takes(size):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(bytes(size))
        taken = int.from_bytes(fcntl.ioctl(ours.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    assert taken <= size + UNREAD_OVERHEAD


# Tests of endless requests.


async def test_endless_requests_are_bounded_and_others_are_served(serve, provider, quote_request):
    """A limit on the number of connections suffices, because each request is small."""
    server = serve(provider, max_connections=50)
    for _ in range(200):
        server.connect("greedy", INCOMPLETE)
    await until(lambda: server.total == 200)
    assert server.open <= 51
    assert server.count("dropped", "greedy", "shed") >= 149
    assert await server.serves("good", quote_request(8192))


async def test_unread_small_answers_leave_descriptors(serve, provider, quote_request):
    available = 960
    limits = HelperLimits(peer_wait_seconds=0.1).with_descriptors(available)
    server = serve(provider, **dataclasses.asdict(limits))
    for _ in range(64):
        for number in range(30):
            server.connect(f"pod{number}", ASKS_NUM)
        await settled()
    assert server.open < available
    assert 100 < server.unread <= available // 3
    assert await server.serves("awake", quote_request())


@pytest.fixture
def watched_memory(serve, provider, monkeypatch):
    """Starts a server that watches its memory; returns the server and a list that gets its memory problems."""
    monkeypatch.setattr("confcom.quote_helper.transport.server.MEMORY_LOOK_SECONDS", 0.01)
    tasks = []

    def start(pid):
        problems = []
        server = serve(provider, unread_memory=8 * UNREAD_RESERVE, peer_wait_seconds=0.05, pid=pid)
        watch = server.aesm.watch_memory(lambda: problems.append(server.aesm.memory_problem))
        tasks.append(asyncio.get_running_loop().create_task(watch))
        return server, problems

    yield start
    for task in tasks:
        task.cancel()


SO_PEERPIDFD = 77
HELD = [f"held{number}" for number in range(20)]


@pytest.mark.parametrize("pid", [0, 1 << 22])
async def test_memory_that_no_process_holds_is_a_problem(pid, watched_memory, asks_quote, monkeypatch):
    """The server refuses even a new peer. The problem ends when the connections are closed."""
    server, problems = watched_memory(pid=pid)
    held = server.connect_by_an_ended_process(HELD, asks_quote)
    await settled()
    assert await server.read(server.connect("new", asks_quote)) == b""
    await until(lambda: problems)
    assert problems[0].code == "memory-held-by-ended-processes"
    monkeypatch.setattr("confcom.quote_helper.transport.server.SHORT_SECONDS", 0.01)
    for each in held:
        each.close()
    await until(lambda: len(problems) > 1)
    assert problems[1] is None


def has_peer_pidfd():
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.suppress(OSError):
        os.close(int.from_bytes(ours.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4), sys.byteorder))
        return True
    return False


@pytest.mark.parametrize("visible", [True, False])
async def test_memory_that_living_processes_hold_is_none(visible, watched_memory, asks_quote):
    """This holds for processes in PID namespaces that the helper does not see, too, from Linux 6.5 on."""
    if not visible and not has_peer_pidfd():
        pytest.skip("this kernel has no SO_PEERPIDFD (Linux 6.5)")
    server, problems = watched_memory(pid=os.getpid() if visible else 0)
    for peer in HELD:
        server.connect(peer, asks_quote)
    await settled()
    assert await server.read(server.connect("new", asks_quote)) == b""
    await asyncio.sleep(0.1)
    assert not problems


async def test_half_requests_starve_nobody_where_descriptors_are_few(serve, provider, quote_request):
    """The limits follow from a hard limit of 1,024 descriptors, of which 64 are for other files."""
    server = serve(provider, **dataclasses.asdict(HelperLimits().with_descriptors(960)))
    for number in range(80):
        server.connect(f"pod{number % 20}", INCOMPLETE)
    await until(lambda: server.total == 80)
    for _ in range(3):
        assert await server.serves("good", quote_request(8192))


SEVERAL = 3 * EVENTS_PER_TURN
"""Number of connections for three turns. Thousands in one turn would block other clients for 0.1 s."""


def watched_until_none(number):
    """Record a function's result in each turn of the event loop until the result is 0; return the list."""
    seen = []

    def look():
        seen.append(number())
        if seen[-1] or len(seen) < 2:
            asyncio.get_running_loop().call_soon(look)

    look()
    return seen


def most_in_a_turn(seen):
    return max(before - after for before, after in pairwise([*seen, 0]))


@pytest.mark.parametrize("limits", [{"receive_drain_seconds": 0.0}, {"whole_request_seconds": 1.0}], ids=" ".join)
async def test_incomplete_requests_end_in_turns(serve, provider, limits):
    server = serve(provider, **limits)
    for number in range(SEVERAL):
        server.connect(f"peer{number}", INCOMPLETE)
    await until(lambda: server.open == SEVERAL)
    seen = watched_until_none(lambda: server.open)
    if "receive_drain_seconds" in limits:
        await server.aesm.drain()
    else:
        await until(lambda: server.count("dropped", detail="timeout") == SEVERAL)
    assert server.open == 0
    assert most_in_a_turn(seen) <= EVENTS_PER_TURN


async def test_requests_that_wait_for_too_long_are_refused_in_turns(serve):
    """Here all requests are from one peer, and therefore in one lane of the queue."""
    server = serve(None, provider_wait_seconds=1.0)
    clients = [server.connect("one", ASKS_SIZE) for _ in range(SEVERAL)]
    await until(lambda: server.waiting == SEVERAL)
    seen = watched_until_none(lambda: server.waiting)
    for client in clients:
        assert code_of(await server.read(client), SIZE.kind) == AesmErrorCode.SERVICE_UNAVAILABLE
    assert most_in_a_turn(seen) <= EVENTS_PER_TURN


async def test_an_error_when_a_request_times_out_stops_no_deadline(serve, provider, monkeypatch):
    server = serve(provider, whole_request_seconds=0.1)
    monkeypatch.setattr(Connections, "sheddable_since", fails_once(Connections.sheddable_since))
    monkeypatch.setattr(ConnectionHandler, "drop", fails_once(ConnectionHandler.drop))
    for name in ("first", "second"):
        server.connect(name, INCOMPLETE)
        await until(lambda n=name: server.count("dropped", n) == 1)
    assert server.open == 0


# Tests of errors while a connection is served.


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("respond", MemoryError()),
        ("respond", RuntimeError("unforeseen")),
        ("respond", OSError(5, "Input/output error")),
        ("has_unread", MemoryError()),
        ("finish", MemoryError()),
        ("send", MemoryError()),
    ],
)
async def test_an_error_ends_its_connection_and_others_go_on(serve, provider, step, error, monkeypatch):
    """The error is raised in the turn that accepts the connection, or in a later turn."""
    server = serve(provider)
    owner = server.service if step == "respond" else Connection
    original = getattr(owner, step)
    failing = []

    def fail(*arguments):
        if failing:
            raise failing.pop()
        return original(*arguments)

    monkeypatch.setattr(owner, step, fail)
    for count, first in enumerate((len(ASKS_NUM), 3), start=1):
        failing.append(error)
        client = server.connect("unlucky", ASKS_NUM[:first])
        await until(lambda count=count: server.total == 2 * count - 1)
        with contextlib.suppress(BrokenPipeError):
            client.send(ASKS_NUM[first:])
        await until(lambda: not failing and server.open == 0)
        assert server.count("dropped", "unlucky", "failed") == count
        assert (server.unread, server.memory) == (0, 0)
        assert await server.serves("unlucky")


# Tests of paused connections of many peers. Each peer gets a turn, and the event loop runs in between.


async def test_paused_connections_of_many_peers_are_resumed_in_turns(serve, provider, asks_quote):
    """Each peer has two connections, which wait because other peers hold all memory."""
    server = serve(provider, unread_memory=3 * UNREAD_RESERVE - 4000, peer_wait_seconds=3600.0)
    holding = [server.connect(f"holding{number}", asks_quote) for number in range(3)]
    await settled()
    several = 8 * EVENTS_PER_TURN
    waiting = [server.connect(f"peer{number}", ASKS_NUM) for _ in range(2) for number in range(several)]
    await until(lambda: server.total == 3 + len(waiting))
    assert server.count("answered") == len(holding)
    server.events.clear()
    seen = watched_until_none(lambda: len(waiting) - server.count("answered"))
    for client in holding:
        client.close()
    assert b"" not in await asyncio.gather(*map(server.read, waiting))
    assert most_in_a_turn(seen) <= EVENTS_PER_TURN
