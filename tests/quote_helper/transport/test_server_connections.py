"""The server alone on real sockets, with peers of the test's own: who is shed, who is served, what ends when."""

import asyncio
import resource
import socket
from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import GetQuoteExRequest, GetQuoteSizeExRequest, GetSupportedAttKeyIdNumRequest
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

NEVER = {"crowded_seconds": 3600.0, "many_peers_seconds": 3600.0}
"""No connection is shed for its age."""

KEY_ID = ECDSA_P256_KEY_ID.encode()
NUM = encode_frame(encode_request(GetSupportedAttKeyIdNumRequest()))
SIZE = encode_frame(encode_request(GetQuoteSizeExRequest(att_key_id=KEY_ID)))
GARBAGE = (b"\xff" * 16, b"\x04\0\0\0" + b"\xff" * 4, b"\0" * 8)
"""A length that is too large, a body that is not protobuf, a length of 0."""


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


async def test_without_one_that_may_go_yet_accepting_pauses_until_one_has_ended(serve, provider):
    harness = serve(provider, max_connections=3, crowded_retry_seconds=3600.0, **NEVER)
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


@pytest.mark.parametrize("shorter", ["crowded_seconds", "many_peers_seconds"])
async def test_without_places_an_incomplete_request_has_a_moment_also_as_its_peers_only_one(serve, provider, shorter):
    harness = serve(provider, max_connections=50, crowded_retry_seconds=0.01, **NEVER | {shorter: 0.05})
    for number in range(300):
        harness.connect(f"peer{number}", NUM[:1])
    assert (await harness.ask("late", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0
    assert harness.observer.count("dropped", detail="shed") >= 250
    assert harness.observer.count("dropped", "late") == 0


async def test_without_places_a_peer_with_few_connections_loses_none_at_once(serve, provider):
    """A peer with two connections is no cause of a shortage that two hundred with one each make."""
    harness = serve(provider, max_connections=200, crowded_retry_seconds=0.01, **NEVER)
    harness.connect("two", NUM[:1])
    second = harness.connect("two", NUM[:1])
    for number in range(194):
        harness.connect(f"peer{number}")
    await harness.observer.until(lambda: harness.observer.total == 196)
    greedy = [harness.connect("greedy") for _ in range(8)]
    await harness.observer.until(lambda: harness.observer.count("dropped", "greedy", "shed"))
    assert harness.observer.count("dropped") == harness.observer.count("dropped", "greedy")
    second.send(NUM[1:])
    assert await harness.read(second) != b""
    assert await harness.read(greedy[0]) == b""


async def test_a_flood_delays_another_peer_by_turns_and_not_by_its_queue(serve, provider):
    harness = serve(None, client_memory=1 << 30)
    served = []
    answered = harness.observer.answered
    harness.observer.answered = lambda peer, *rest: (served.append(peer.key), answered(peer, *rest))
    for _ in range(600):
        harness.connect("flood", SIZE)
    quiet = harness.connect("quiet", SIZE)
    await harness.observer.until(lambda: harness.service.waiting == 601)
    harness.service.provide(provider)
    assert decode_response((await harness.read(quiet))[4:], GetQuoteSizeExRequest.kind).error_code == 0
    # First come first served would be place 600.
    assert served.index("quiet") == 1


async def test_a_flood_for_a_waiting_provider_delays_another_peer_by_one_call(serve, waiting_provider):
    harness = serve(None, max_waiting=200)
    floods = [harness.connect("flood", SIZE) for _ in range(60)]
    await harness.observer.until(lambda: harness.observer.total == 60)
    quiet = harness.connect("quiet", SIZE)
    await harness.observer.until(lambda: harness.observer.total == 61)
    assert harness.service.waiting == 61
    assert (await harness.ask("other", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0
    harness.service.provide(waiting_provider, waiting_provider.in_loop)
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
        harness = serve(provider, first_byte_seconds=3600.0)  # however busy this machine is
        for number in range(5000):
            harness.connect("idle")
            if number % 500 == 0:
                assert (await harness.ask("good", SIZE, GetQuoteSizeExRequest.kind)).error_code == 0
        await harness.observer.until(lambda: harness.observer.count("dropped", "idle", "shed") >= 904)
        assert (await harness.ask("good", SIZE, GetQuoteSizeExRequest.kind)).error_code == 0
        assert harness.observer.open <= 4096
        assert harness.observer.count("dropped", "good") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_header_sent_byte_by_byte_ends_at_its_deadline_and_holds_up_nobody(serve, provider):
    harness = serve(provider, first_byte_seconds=0.05, whole_request_seconds=0.1)
    slow = harness.connect("slow", NUM[:1])
    for _ in range(20):
        assert (await harness.ask("good", NUM, GetSupportedAttKeyIdNumRequest.kind)).error_code == 0
    assert await harness.read(slow) == b""
    assert harness.observer.count("dropped", "slow", "timeout") == 1


async def test_a_client_that_never_reads_is_dropped_and_one_that_reads_late_gets_all(serve, provider, enclave):
    harness = serve(provider, send_buffer=4096, write_seconds=0.2)
    report = enclave.create_report(provider.identity().target_info, bytes(64))
    frame = encode_frame(encode_request(GetQuoteExRequest(report.encode(), 65536, att_key_id=KEY_ID)))
    never = harness.connect("never", frame)
    late = harness.connect("late", frame)
    await harness.observer.until(lambda: harness.observer.total == 2)
    assert len(decode_response((await harness.read(late))[4:], GetQuoteExRequest.kind).quote) == 65536
    await harness.observer.until(lambda: harness.observer.count("dropped", "never", "write_timeout") == 1)
    assert harness.observer.count("answered", "late", 0) == 1
    # What the kernel had taken is still the helper's memory.
    await harness.observer.until(lambda: harness.observer.open == 1)
    assert harness.server.unread == 1
    never.close()
    await harness.observer.until(lambda: harness.observer.open == 0)
    assert (harness.server.unread, harness.server.client_memory) == (0, 0)


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
    assert (len(harness.server._handler._watched), harness.server.connections) == (0, 0)
    assert resident() - before < 8 << 20
