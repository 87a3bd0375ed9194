"""Tests of slow peers, whose messages make system calls wait, and of the thread that serves these peers."""

import socket
import threading
from unittest.mock import Mock

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.quote_helper.transport.slow_peers import MAX_PEERS, REMEMBERED_SECONDS, SLOW_SECONDS, SlowPeers
from testkit.conditions import until
from testkit.helper_in_process import NUM, SIZE, frame

ASKS_NUM = frame(NUM)
GARBAGE = b"\xff" * 16


class AllSlow(SlowPeers):
    def __contains__(self, peer):
        return True


@pytest.fixture
async def slow(clock):
    made = SlowPeers(clock)
    yield made
    made.end()


@pytest.fixture
async def server(serve, provider):
    return serve(provider, slow_peers=AllSlow(lambda: 0.0))


async def test_they_are_served_from_the_thread(server):
    assert await server.serves("peer", NUM)
    assert await server.serves("peer", SIZE)
    await until(lambda: server.open == 0)


async def test_a_request_in_pieces_is_answered(server):
    client = server.connect("peer", ASKS_NUM[:3])
    await until(lambda: server.open == 1)
    client.send(ASKS_NUM[3:])
    assert await server.read(client) != b""


@pytest.mark.parametrize(("sent", "reason"), [(GARBAGE, "malformed"), (ASKS_NUM[:3], "timeout")])
async def test_bad_and_late_requests_end(serve, provider, sent, reason):
    server = serve(provider, slow_peers=AllSlow(lambda: 0.0), whole_request_seconds=0.05)
    assert await server.read(server.connect("peer", sent)) == b""
    await until(lambda: server.count("dropped", "peer", reason) == 1)


async def test_connections_that_the_thread_has_not_closed_take_places(server, monkeypatch):
    blocked = threading.Event()
    slow = server.aesm._handler._slow
    slow._put("other", blocked.wait)
    places = server.aesm._handler.free_places
    for _ in range(5):
        server.connect("peer").close()
    await until(lambda: server.total == 5)
    for connection in server.aesm.connections:
        server.aesm._handler.drop(connection, "shed")
    assert server.aesm._handler.free_places == places - 5
    blocked.set()
    await until(lambda: server.aesm._handler.free_places == places)


async def test_over_its_limits_a_peer_is_refused(serve):
    server = serve(None, slow_peers=AllSlow(lambda: 0.0), max_waiting=2, peer_wait_seconds=0.05)
    first = server.connect("peer", frame(SIZE))
    await until(lambda: server.waiting == 1)
    assert (await server.ask("peer", SIZE)).error_code == AesmErrorCode.BUSY
    first.close()


async def test_a_peer_is_slow_after_a_call_that_took_long(slow, clock):
    def call(seconds):
        clock.now += seconds

    slow.timed("quick", lambda: call(SLOW_SECONDS / 2))
    slow.timed("slow", lambda: call(SLOW_SECONDS * 2))
    assert ("quick" in slow, "slow" in slow) == (False, True)
    clock.now += REMEMBERED_SECONDS + 1
    assert "slow" not in slow


async def test_so_many_slow_peers_are_remembered(slow, clock):
    def call():
        clock.now += SLOW_SECONDS * 2

    for peer in range(MAX_PEERS + 1):
        slow.timed(peer, call)
    clock.now -= SLOW_SECONDS * 2 * MAX_PEERS  # no peer is old enough to be forgotten
    assert (0 in slow, 1 in slow, MAX_PEERS in slow) == (False, True, True)


async def test_a_slow_call_in_the_thread_renews_the_memory(slow, clock):
    def receive():
        clock.now += 1
        return b"data"

    received = []
    slow.receive("peer", receive, received.append)
    await until(lambda: received)
    assert received[0]() == b"data"
    await until(lambda: "peer" in slow)


async def test_an_error_reaches_who_waits(slow):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        received = []
        slow.receive("peer", lambda: ours.recv(1, socket.MSG_DONTWAIT), received.append)
        await until(lambda: received)
        with pytest.raises(BlockingIOError):
            received[0]()
        slow.close("peer", ours)
        assert slow.closing == 1
        await until(lambda: slow.closing == 0)
        assert theirs.recv(1) == b""


async def test_what_waits_for_the_thread_may_be_shed(server):
    blocked = threading.Event()
    server.aesm._handler._slow._put("other", blocked.wait)
    client = server.connect("peer", ASKS_NUM)
    await until(lambda: server.open == 1)
    assert len(server.aesm.connections.sheddable) == 1
    blocked.set()
    assert await server.read(client) != b""
    assert not server.aesm.connections.sheddable


async def test_without_a_thread_sockets_are_closed_all_the_same(slow, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        slow.close("peer", ours)
        assert theirs.recv(1) == b""
        await until(lambda: slow.closing == 0)
