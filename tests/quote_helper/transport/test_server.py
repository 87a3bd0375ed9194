"""Tests which connections the server sheds, serves, ends and pauses, on real sockets with simulated peers."""

import asyncio
import contextlib
import errno
import gc
import resource
import socket
import sys
from pathlib import Path
from unittest.mock import Mock, create_autospec

import pytest

from confcom.aesm.messages import GetQuoteExRequest
from confcom.errors import ExitCode
from confcom.quote_helper.transport.handler import EVENTS_PER_TURN, ConnectionHandler
from confcom.quote_helper.transport.peers import GONE
from testkit.conditions import until
from testkit.helper_in_process import KEY_ID, NUM, SIZE, RunningServer, frame, open_descriptors

NEVER = {"crowded_seconds": 3600.0, "many_peers_seconds": 3600.0}
"""Limits so long that the server sheds no connection because of its age."""
GARBAGE = (b"\xff" * 16, b"\x04\0\0\0" + b"\xff" * 4, b"\0" * 8)
"""Malformed requests: the length is too large, the body is not protobuf, or the length is 0."""
ASKS_NUM, ASKS_SIZE = frame(NUM), frame(SIZE)


# Tests of too many connections.


async def test_the_peer_that_holds_most_loses_its_oldest(serve, provider):
    """The server sheds the peer's oldest connection without a request, and still answers sent requests."""
    server = serve(None, max_connections=10, **NEVER)
    lone = server.connect("lone")
    asking = server.connect("greedy", ASKS_SIZE)
    await until(lambda: server.waiting == 1)
    greedy = []
    for number in range(30):
        greedy.append(server.connect("greedy"))
        await until(lambda n=number: server.total == n + 3)
    assert server.count("dropped", "greedy", "shed") == 22
    assert server.count("dropped", "lone") == 0
    assert await server.read(greedy[21]) == b""
    server.service.provide(provider)
    assert await server.read(asking) != b""
    for client in (lone, greedy[22]):
        client.send(ASKS_NUM)
        assert await server.read(client) != b""


async def test_without_places_connections_of_ended_processes_are_turned_away(serve, provider):
    server = serve(provider, max_connections=3, accept_retry_seconds=0.01, **NEVER)
    held = server.connect(GONE, ASKS_NUM[:1])
    free = [server.connect(f"peer{number}") for number in range(2)]
    await until(lambda: server.open == 3)
    gone = server.connect_by_an_ended_process([GONE] * 30)
    await until(lambda: server.count("dropped", GONE, "shed") == 30)
    assert [await server.read(each) for each in gone] == [b""] * 30
    assert (server.count("dropped"), server.count("paused")) == (30, 0)
    unidentified = server.connect(GONE, ASKS_NUM)  # its process lives
    assert await server.read(unidentified) != b""
    for client, rest in ((held, ASKS_NUM[1:]), *((each, ASKS_NUM) for each in free)):
        client.send(rest)
        assert await server.read(client) != b""


async def test_where_none_may_go_yet_accepting_pauses(serve, provider):
    server = serve(provider, max_connections=3, accept_retry_seconds=0.05, **NEVER)
    held = [server.connect(f"peer{number}") for number in range(4)]
    await until(lambda: server.open == 4)
    late = server.connect("late", ASKS_NUM)
    await until(lambda: server.count("paused"))
    looks = server.count("paused")
    for _ in range(50):
        await asyncio.sleep(0)
    assert server.count("paused") <= looks + 1, "nothing spins meanwhile"
    assert (server.total, server.count("dropped")) == (4, 0)
    held[0].close()
    held[1].close()
    assert await server.read(late) != b""


async def test_connections_with_input_delay_no_new_one(monkeypatch, serve, provider):
    polls = create_autospec(ConnectionHandler.poll, side_effect=ConnectionHandler.poll)
    monkeypatch.setattr(ConnectionHandler, "poll", polls)
    admit, polls_before = ConnectionHandler.admit, []

    def admitted(handler, connection):
        polls_before.append(polls.call_count)
        admit(handler, connection)

    monkeypatch.setattr(ConnectionHandler, "admit", admitted)
    server = serve(provider, **NEVER)
    drip = [server.connect("drip", ASKS_NUM[:1]) for _ in range(20 * EVENTS_PER_TURN)]
    await until(lambda: server.open == len(drip))
    with server.listen(f"{server.path}-of-the-next") as second:
        await asyncio.sleep(0.01)  # until no listener's event is in the epoll, before those of the connections
        for each in drip:
            each.send(ASKS_NUM[1:2])
        polls.reset_mock()
        polls_before.clear()
        new = [server.connect("new", ASKS_NUM, path) for path in (server.path, second.getsockname())]
        assert all([await server.read(each) for each in new])
        assert 0 < max(polls_before) < 10
        assert polls.call_count > max(polls_before)


async def test_input_does_not_end_a_pause_of_accepting(short_dir, serve, provider):
    server = serve(provider, accept_retry_seconds=3600.0, **NEVER)
    drip = [server.connect(f"drip{number % 4}", ASKS_NUM[:1]) for number in range(2 * EVENTS_PER_TURN)]
    await until(lambda: server.open == len(drip))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_dir / "destitute"))
        listener.listen()
        destitute = Destitute(listener)
        server.aesm.add_listener(destitute)
        server.connect("client", path=short_dir / "destitute")
        await until(lambda: server.count("paused"))
        tries = destitute.tries
        for each in drip:
            each.send(ASKS_NUM[1:])
        assert all([await server.read(each) for each in drip])
        assert destitute.tries == tries


@pytest.mark.parametrize("shorter", ["crowded_seconds", "many_peers_seconds"])
async def test_without_places_an_incomplete_request_has_a_moment(serve, provider, shorter):
    """If no place is free, an incomplete request has little time, even on its peer's only connection."""
    server = serve(provider, max_connections=50, accept_retry_seconds=0.01, **NEVER | {shorter: 0.05})
    for number in range(300):
        server.connect(f"peer{number}", ASKS_NUM[:1])
    assert await server.serves("late")
    assert server.count("dropped", detail="shed") >= 250
    assert server.count("dropped", "late") == 0


async def test_unread_answers_take_no_places(serve, provider):
    """Unread answers do not count when the server looks for the peer with the most places."""
    server = serve(provider, max_connections=200, accept_retry_seconds=0.01, **NEVER)
    for _ in range(20):
        server.connect("unread", ASKS_NUM)
    await until(lambda: server.unread == 20)
    incomplete = server.connect("unread", ASKS_NUM[:1])
    for _ in range(10):
        server.connect("greedy")
    for number in range(189):
        server.connect(f"peer{number}")
    await until(lambda: server.total == 220)
    server.connect("late")
    await until(lambda: server.count("dropped", "greedy", "shed"))
    incomplete.send(ASKS_NUM[1:])
    assert await server.read(incomplete) != b""


# Tests of turns and deadlines.


async def test_a_flood_delays_another_peer_by_turns_not_its_queue(serve, either):
    server = serve(None, max_waiting=200)
    floods = [server.connect("flood", ASKS_SIZE) for _ in range(60)]
    await until(lambda: server.total == 60)
    quiet = server.connect("quiet", ASKS_SIZE)
    await until(lambda: server.waiting == 61)
    assert await server.serves("other")
    server.service.provide(either, either.in_loop)
    assert await server.read(quiet) != b""
    # If peers had no turns, the quiet peer's answer would be the 61st.
    assert [key for what, key, _ in server.events if what == "answered"].index("quiet") <= 5
    for client in floods:
        assert await server.read(client) != b""


async def test_an_answer_larger_than_the_sockets_buffer(serve, provider, enclave, caplog):
    """The node's default buffer may be too small; the server does not keep bytes that the kernel refuses."""
    server = serve(provider, send_buffer=4096)
    report = enclave.create_report(provider.identity().target_info, bytes(64)).encode()
    client = server.connect("unlucky", frame(GetQuoteExRequest(report, 16_384, att_key_id=KEY_ID)))
    assert len(await server.read(client)) < 16_384
    assert server.count("dropped", "unlucky", "failed") == 1
    assert "net.core.wmem_default" in caplog.text
    assert (server.open, server.memory) == (0, 0)


async def test_early_clients_are_served_when_their_listener_goes(serve, provider, short_dir):
    server = serve(provider)
    second = server.listen(str(short_dir / "second"))
    waiting = [server.connect("early", ASKS_NUM) for _ in range(100)]
    server.aesm.remove_listener(server.listener)
    with pytest.raises(ConnectionRefusedError):
        server.connect("late")
    for client in waiting:
        assert await server.read(client) != b""
    assert await server.read(server.connect("other", ASKS_NUM, short_dir / "second")) != b""
    server.aesm.remove_listener(second)
    second.close()


@pytest.mark.slow
async def test_a_probe_that_connects_and_disconnects_is_no_error(serve, provider, caplog):
    server = serve(provider)
    for close in (socket.socket.close, lambda client: client.shutdown(socket.SHUT_WR)):
        client = server.connect("probe")
        await until(lambda: server.open == 1)
        close(client)
        await until(lambda: server.open == 0)
    assert server.events == []
    assert caplog.records == []


async def test_many_garbage_connections_leave_nothing_behind(serve, provider):
    server = serve(provider)

    def blocks():
        gc.collect()
        return sys.getallocatedblocks()

    async def send_garbage(rounds):
        for number in range(rounds):
            due = server.total + 200
            clients = [socket.socket(socket.AF_UNIX) for _ in range(200)]
            for client in clients:
                client.connect(server.path)
                client.send(GARBAGE[number % len(GARBAGE)])
            await until(lambda due=due: server.total == due and server.open == 0)
            for client in clients:
                client.close()
            assert server.count("malformed") == len(clients)
            server.events.clear()

    await send_garbage(15)
    before = blocks()
    await send_garbage(45)
    assert server.total == 12_000
    assert (len(server.aesm._handler._watched), server.open) == (0, 0)
    assert blocks() - before < 9_000, "less than one for each connection"


# Tests of accepting connections and of descriptors.


async def test_nothing_stays_open_of_a_helper_that_ends(in_process, provider):
    async with in_process(provider) as helper:
        await helper.ready()
    before = open_descriptors()
    for _ in range(2):
        async with in_process(provider, receive_drain_seconds=0.0, drain_seconds=0.0) as helper:
            await helper.ready()
            _, writer = await asyncio.open_unix_connection(helper.socket)
            await helper.reaches("connections", 1)
            helper.task.cancel()
            await asyncio.wait({helper.task})
        writer.close()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(writer.wait_closed(), 30)
    assert open_descriptors() <= before


class Destitute:
    """A listening socket that cannot accept connections because the process has no free descriptors."""

    def __init__(self, sock):
        self._sock = sock
        self.tries = 0

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def _accept(self):
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")


async def test_without_descriptors_one_timer_tries_again(short_dir, provider, monkeypatch):
    monkeypatch.setattr("confcom.quote_helper.transport.handler.TICK_SECONDS", 0.01)
    server = RunningServer(short_dir / "s", provider, accept_retry_seconds=0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_dir / "destitute"))
        listener.listen()
        server.aesm.add_listener(Destitute(listener))
        server.connect("client", path=short_dir / "destitute")
        await until(lambda: server.count("paused") >= 5)
        server.close()
        before, server.service.refuse_late = open_descriptors(), Mock(return_value=False)
        await asyncio.sleep(0.05)
        assert open_descriptors() == before  # no timer outlives the server
        assert not server.service.refuse_late.called


def test_without_descriptors_clients_wait_until_there_are_some(start_helper, vector):
    """A real helper process keeps its connections, turns no client away, and recovers by itself."""
    helper = start_helper().wait_ready()
    request, answer = vector("intel229_num"), vector("resp_intel229_num")
    limits = resource.prlimit(helper.process.pid, resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path(f"/proc/{helper.process.pid}/fd").iterdir())
    # With this limit the process can have no more descriptors than it has now.
    resource.prlimit(helper.process.pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    # The helper has one reserved descriptor, with which it serves clients one after the other.
    assert [helper.send(request) for _ in range(3)] == [answer] * 3
    waiting = []
    for _ in range(highest + 8):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(helper.socket))
        client.sendall(request[:2])
        waiting.append(client)
    # During the pause the helper answers no probes, so only the log reports the pause.
    helper.wait_until(lambda: helper.events("accepting-paused"))
    resource.prlimit(helper.process.pid, resource.RLIMIT_NOFILE, limits)
    for client in waiting:
        client.sendall(request[2:])
    # The server may have shed this peer's first connections, but never sheds a peer's last connection.
    assert waiting[-1].recv(1000) == answer
    assert helper.send(request) == answer
    for client in waiting:
        client.close()
    helper.wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    assert helper.metric("confcom_quote_helper_accepting_paused_total") >= 1
    assert helper.stop() == ExitCode.OK
