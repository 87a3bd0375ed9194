"""What clients make the helper hold, on real sockets: requests that do not end, and answers that nobody reads."""

import asyncio
import contextlib
import fcntl
import socket
import sys
import termios
from itertools import pairwise

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import GetQuoteExRequest, GetQuoteSizeExRequest, GetSupportedAttKeyIdNumRequest
from confcom.quote_helper.limits_and_deadlines import (
    CONNECTION_MEMORY,
    EVENTS_PER_TURN,
    PEER_MEMORY_PART,
    UNWATCHED_SECONDS,
    HelperLimits,
)
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.paused_connections import PausedConnections
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

KEY_ID = ECDSA_P256_KEY_ID.encode()
SIZE = encode_frame(encode_request(GetQuoteSizeExRequest(att_key_id=KEY_ID)))
NUM = encode_frame(encode_request(GetSupportedAttKeyIdNumRequest()))
LARGEST = 65_536
MEMORY = 32 << 20
SHARE = HelperLimits(client_memory=MEMORY).memory_per_peer
INCOMPLETE = LARGEST.to_bytes(4, "little") + bytes(65_000)


@pytest.fixture
def quote_frame(provider, enclave):
    """A request for a quote in a buffer of any size."""
    report = enclave.create_report(provider.identity().target_info, bytes(64)).encode()

    def make(buf_size):
        return encode_frame(encode_request(GetQuoteExRequest(report, buf_size, att_key_id=KEY_ID)))

    return make


async def attest(harness, peer, frame):
    response = decode_response((await harness.read(harness.connect(peer, frame)))[4:], GetQuoteExRequest.kind)
    assert response.error_code == AesmErrorCode.SUCCESS


async def settled(harness):
    """Wait until what was not read in time counts, and the server does nothing any more."""
    await asyncio.sleep(2 * UNWATCHED_SECONDS)
    for _ in range(20):
        await asyncio.sleep(0.005)


async def test_answers_that_are_not_read_are_bounded_and_others_get_theirs(serve, provider, quote_frame):
    harness = serve(provider, client_memory=MEMORY)
    for _ in range(5):
        for _ in range(20):
            harness.connect("greedy", quote_frame(LARGEST))
            await attest(harness, "good", quote_frame(8192))
        await settled(harness)
    # Those that were asked for before the first ones counted, and none after that.
    assert 0 < harness.observer.count("answered", "greedy") <= 20
    assert harness.observer.count("answered", "good", 0) == 100


async def test_what_all_may_hold_is_never_passed_also_before_it_counts_for_a_peer(serve, provider, quote_frame):
    harness = serve(provider, client_memory=MEMORY)
    held = []
    for peer in range(800):
        harness.connect(f"greedy{peer}", quote_frame(LARGEST))
        if peer % 50 == 0:
            await settled(harness)
        held.append(harness.server.client_memory)
    assert MEMORY * 9 // 10 < max(held) <= MEMORY + LARGEST // 8


async def test_small_answers_that_are_not_read_are_bounded_too(serve, provider):
    harness = serve(provider, client_memory=MEMORY)
    for _ in range(5):
        for _ in range(40):
            harness.connect("greedy", NUM)
            assert (await harness.ask("good", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0
        await settled(harness)
    assert SHARE // CONNECTION_MEMORY // 2 < harness.observer.count("answered", "greedy") <= 80


async def test_all_pods_of_a_node_together_leave_enough_for_one_more(serve, provider, quote_frame):
    harness = serve(provider, client_memory=MEMORY)
    for _ in range(4):
        for peer in range(PEER_MEMORY_PART - 2):
            harness.connect(f"greedy{peer}", quote_frame(LARGEST))
        await settled(harness)
    assert harness.server.unread > 2 * (PEER_MEMORY_PART - 2)
    await attest(harness, "good", quote_frame(LARGEST))
    assert harness.server.client_memory < MEMORY


async def test_answers_that_are_not_read_take_no_place_of_others(serve, provider):
    harness = serve(provider, max_connections=10)
    unread = [harness.connect("late", NUM) for _ in range(50)]
    await harness.observer.until(lambda: harness.server.unread == 50)
    assert (await harness.ask("good", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0
    assert harness.observer.count("dropped") == 0
    for client in unread:
        assert await harness.read(client) != b""


async def test_a_peer_that_reads_at_last_gets_every_answer(serve, provider, quote_frame):
    harness = serve(provider, client_memory=MEMORY, peer_wait_seconds=60.0)  # however busy this machine is
    clients = []
    for _ in range(10):
        clients += [harness.connect("late", quote_frame(LARGEST)) for _ in range(3)]
        await settled(harness)
    assert 0 < harness.observer.count("answered", "late") < 30
    for client in clients:
        answer = await harness.read(client)
        assert decode_response(answer[4:], GetQuoteExRequest.kind).error_code == AesmErrorCode.SUCCESS
    await harness.observer.until(lambda: harness.observer.open == 0)
    assert harness.server.client_memory == 0


async def test_a_request_that_waits_too_long_for_its_own_peer_is_refused_as_busy(serve, provider, quote_frame):
    """The refusal is small, so it may be sent where a whole quote may not."""
    harness = serve(provider, client_memory=MEMORY, peer_wait_seconds=0.1)
    for _ in range(3):
        harness.connect("greedy", quote_frame(LARGEST))
    await settled(harness)
    refused = harness.connect("greedy", quote_frame(LARGEST))
    response = decode_response((await harness.read(refused))[4:], GetQuoteExRequest.kind)
    assert response.error_code == AesmErrorCode.BUSY
    assert harness.observer.count("answered", "greedy", AesmErrorCode.SUCCESS) == 3


async def test_a_request_is_dropped_where_its_peer_may_not_even_have_a_refusal(serve, provider):
    harness = serve(provider, client_memory=MEMORY, peer_wait_seconds=0.1)
    for _ in range(SHARE // CONNECTION_MEMORY):
        harness.connect("greedy", NUM)
    await settled(harness)
    dropped = harness.connect("greedy", NUM)
    assert await harness.read(dropped) == b""
    assert harness.observer.count("dropped", "greedy", "over_share") == 1


async def test_more_waiting_requests_than_there_may_be_are_refused_as_busy_and_another_peer_waits(serve, provider):
    harness = serve(None, max_waiting=10, peer_wait_seconds=0.2)
    for _ in range(20):
        harness.connect("greedy", SIZE)
    await harness.observer.until(lambda: harness.observer.total == 20)
    quiet = harness.connect("quiet", SIZE)
    await harness.observer.until(lambda: harness.observer.total == 21)
    assert harness.service.waiting == 6
    harness.service.provide(provider)
    assert await harness.read(quiet) != b""


async def test_a_client_that_closes_unread_or_reads_by_pieces_gives_back_what_it_held(serve, provider, quote_frame):
    harness = serve(provider)
    closing = harness.connect("closing", quote_frame(LARGEST))
    slow = harness.connect("slow", quote_frame(LARGEST))
    await harness.observer.until(lambda: harness.server.unread == 2)
    await settled(harness)
    assert harness.server.client_memory >= 2 * LARGEST
    closing.close()
    await harness.observer.until(lambda: harness.observer.open == 1)
    answer = b""
    while len(answer) < LARGEST:
        answer += slow.recv(1000)
        assert harness.server.client_memory >= LARGEST, "the kernel frees the answer when it was read to its end"
    with contextlib.suppress(BlockingIOError):
        while chunk := slow.recv(1000):
            answer += chunk
    assert decode_response(answer[4:], GetQuoteExRequest.kind).error_code == AesmErrorCode.SUCCESS
    await harness.observer.until(lambda: harness.observer.open == 0)
    assert harness.server.client_memory == 0


async def test_a_client_that_does_not_read_sees_the_end_of_its_answer_all_the_same(serve, provider, quote_frame):
    harness = serve(provider)
    client = harness.connect("late", quote_frame(LARGEST))
    await harness.observer.until(lambda: harness.server.unread == 1)
    await settled(harness)
    # The loop does not run in between: nobody can have closed the connection because it was read.
    answer = client.recv(200_000)
    assert client.recv(1) == b""
    assert len(decode_response(answer[4:], GetQuoteExRequest.kind).quote) == LARGEST


async def test_requests_that_do_not_end_are_bounded_and_others_are_served(serve, provider, quote_frame):
    harness = serve(provider, client_memory=MEMORY)
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            harness.connect("greedy", INCOMPLETE)
    await harness.observer.until(lambda: harness.observer.total == 100)
    await settled(harness)
    # bytearrays have up to an eighth to spare, and the last one that was read may have passed the bound by that
    assert SHARE // 2 < harness.server.client_memory <= SHARE + LARGEST // 8
    await attest(harness, "good", quote_frame(8192))


async def test_what_was_not_read_of_a_request_is_read_when_its_peer_holds_less(serve, provider):
    harness = serve(provider, client_memory=MEMORY)
    clients = [harness.connect("many", INCOMPLETE) for _ in range(30)]
    await harness.observer.until(lambda: harness.observer.total == 30)
    await settled(harness)
    whole = harness.connect("many", NUM)
    await settled(harness)
    assert harness.observer.count("answered", "many") == 0
    for client in clients:
        client.close()
    assert await harness.read(whole) != b""
    await harness.observer.until(lambda: harness.observer.open == 0)
    assert harness.server.client_memory == 0


async def test_requests_that_wait_unread_end_at_their_deadline(serve, provider):
    harness = serve(provider, client_memory=MEMORY, first_byte_seconds=0.2, whole_request_seconds=0.3)
    for _ in range(30):
        harness.connect("many", INCOMPLETE)
    await harness.observer.until(lambda: harness.observer.count("dropped", "many") == 30)
    assert harness.observer.count("dropped", "many", "over_share") > 10
    assert (harness.server.connections, harness.server.client_memory) == (0, 0)


async def test_answers_that_are_not_read_delay_no_stop(serve, provider):
    harness = serve(provider, drain_seconds=3600.0)
    client = harness.connect("late", NUM)
    await harness.observer.until(lambda: harness.server.unread == 1)
    await asyncio.wait_for(harness.server.drain(), 30)
    assert client.recv(1000) != b""


async def test_who_sends_on_before_it_reads_is_told_and_still_has_its_answer(serve, provider):
    """More than a socket's buffer holds: without an error it would wait for ever to send."""
    harness = serve(provider)
    client = harness.connect("talkative", NUM)
    client.settimeout(30)

    def send_on():
        with pytest.raises(BrokenPipeError):
            client.sendall(bytes(4 << 20))
        return client.recv(1000)

    answer = await asyncio.to_thread(send_on)
    assert decode_response(answer[4:], GetSupportedAttKeyIdNumRequest.kind).error_code == AesmErrorCode.SUCCESS


async def test_a_stop_closes_incomplete_requests_in_turns(serve, provider):
    """Thousands take a tenth of a second, and others wait for their answers meanwhile."""
    harness = serve(provider, receive_drain_seconds=0.0)
    several = 3 * EVENTS_PER_TURN
    for number in range(several):
        harness.connect(f"peer {number}", INCOMPLETE)
    await harness.observer.until(lambda: harness.server.connections == several)
    seen = []

    def look():
        seen.append(harness.server.connections)
        if seen[-1]:
            asyncio.get_running_loop().call_soon(look)

    look()
    await harness.server.drain()
    assert harness.server.connections == 0
    assert max(before - after for before, after in pairwise([*seen, 0])) <= EVENTS_PER_TURN


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("unforeseen"), OSError(5, "Input/output error")])
async def test_whatever_is_raised_while_a_connection_is_served_it_ends_and_others_go_on(
    serve, provider, error, monkeypatch
):
    harness = serve(provider)
    respond = harness.service.respond
    failing = [True, True]

    def fail(request, owner, asker):
        if owner == "unlucky" and failing:
            failing.pop()
            raise error
        return respond(request, owner, asker)

    monkeypatch.setattr(harness.service, "respond", fail)
    at_once = harness.connect("unlucky", NUM)
    later = harness.connect("unlucky", NUM[:3])
    await harness.observer.until(lambda: harness.observer.total == 2)
    later.send(NUM[3:])
    assert await harness.read(at_once) == await harness.read(later) == b""
    assert harness.observer.count("dropped", "unlucky", "failed") == 2
    assert (harness.server.connections, harness.server.client_memory) == (0, 0)
    assert (await harness.ask("unlucky", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0


@pytest.mark.parametrize("step", ["has_unread", "finish", "end_answer", "send"])
async def test_an_error_in_any_step_ends_that_connection_and_nothing_of_it_stays(serve, provider, step, monkeypatch):
    harness = serve(provider)
    original = getattr(Connection, step)
    failing = [True]

    def fail(connection, *arguments):
        if connection.peer.key == "unlucky" and failing:
            failing.pop()
            raise MemoryError
        return original(connection, *arguments)

    monkeypatch.setattr(Connection, step, fail)
    harness.connect("unlucky", NUM)
    await harness.observer.until(lambda: not failing and harness.observer.open == 0)
    assert harness.observer.count("dropped", "unlucky", "failed") == 1
    assert (harness.server.unread, harness.server.client_memory) == (0, 0)
    assert (await harness.ask("unlucky", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0


@pytest.mark.parametrize("size", [7, 566, 2_500, 8_201, 13_346, LARGEST])
def test_what_a_request_is_counted_for_covers_what_the_kernel_takes_beside_the_answer(size):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(bytes(size))
        taken = int.from_bytes(fcntl.ioctl(ours.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    assert taken <= size + CONNECTION_MEMORY // 2


async def test_many_that_may_go_on_at_once_do_so_in_bounded_turns(serve, provider, monkeypatch):
    """Closing what filled a peer's share frees all that wait for it, and others go on beside them."""
    harness = serve(provider, client_memory=MEMORY)
    filling = []
    for _ in range(2 * SHARE // LARGEST):
        with contextlib.suppress(BlockingIOError):
            filling.append(harness.connect("many", INCOMPLETE))
    await settled(harness)
    for _ in range(1000):
        harness.connect("many", NUM[:1])
    await harness.observer.until(lambda: harness.observer.total >= 1000 + len(filling))
    await settled(harness)
    turns = []
    go_on = PausedConnections._try

    def counted(paused):
        waiting = paused._table.paused
        before = sum(map(len, waiting.values()))
        go_on(paused)
        turns.append(before - sum(map(len, waiting.values())))

    monkeypatch.setattr(PausedConnections, "_try", counted)
    for client in filling:
        client.close()
    await harness.observer.until(lambda: harness.observer.open == 1000)
    await settled(harness)
    assert sum(turns) >= 1000
    assert max(turns) <= EVENTS_PER_TURN
