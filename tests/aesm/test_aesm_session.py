import contextlib
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm.errors import ConnectionClosedError, ProtocolError, SessionMisuseError
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import (
    GetQuoteExRequest,
    GetQuoteSizeExRequest,
    GetQuoteSizeExResponse,
    GetSupportedAttKeyIdNumRequest,
    GetSupportedAttKeyIdNumResponse,
    Request,
)
from confcom.aesm.session import MAX_REQUEST_SIZE, ClientSession, ServerSession, encode_frame
from testkit.expected_errors import raises

CALLS = ["num", "ids", "sel", "sellist", "init1", "init2", "size", "quote", "quote0"]
NUM = bytes.fromhex("06000000aa0103489875")
NUM_ANSWER = bytes.fromhex("07000000aa010408001001")


def feed(session, data, cuts):
    edges = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return [session.receive(data[start:stop]) for start, stop in itertools.pairwise(edges)]


@given(call=st.sampled_from(CALLS), cuts=st.lists(st.integers(0, 2000), max_size=8), trailing=st.binary(max_size=30))
def test_a_request_is_one_event_in_any_segmentation(vector, call, cuts, trailing):
    session = ServerSession()
    events = [event for event in feed(session, vector(f"intel229_{call}") + trailing, cuts) if event is not None]
    assert events == [ServerSession().receive(vector(f"intel229_{call}"))]
    assert isinstance(events[0], Request)


def test_the_answer_is_one_bytes_object_and_ends_the_session():
    session = ServerSession()
    assert isinstance(session.receive(NUM), Request)
    with pytest.raises(EOFError):  # the session still answers after the peer's half-close
        session.receive(b"")
    assert session.respond(GetSupportedAttKeyIdNumResponse(0, 1)) == NUM_ANSWER
    assert session.receive(NUM) is None
    with pytest.raises(SessionMisuseError):
        session.respond(GetSupportedAttKeyIdNumResponse(0, 1))


def test_a_peer_that_sends_nothing_is_a_probe_not_an_error():
    with pytest.raises(EOFError):
        ServerSession().receive(b"")


def test_a_request_that_is_cut_is_an_error():
    for size in range(1, len(NUM)):
        session = ServerSession()
        assert session.receive(NUM[:size]) is None
        with raises("truncated", ProtocolError, "why", "remedy"):
            session.receive(b"")


@pytest.mark.parametrize("split", [0, 1, 3])
@pytest.mark.parametrize(
    ("data", "code", "shown"),
    [
        (bytes(8), "frame-length", "00000000"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame-length", "47455420"),
        (b"\xff" * 4, "frame-length", "ffffffff"),
        ((MAX_REQUEST_SIZE + 1).to_bytes(4, "little"), "frame-length", "01200000"),
        (encode_frame(b"\xff" * 16), "not-an-aesm-message", ""),
        (encode_frame(bytes.fromhex("a20100")), "unknown-request", ""),
        (encode_frame(bytes.fromhex("3a00")), "unknown-request", ""),
    ],
    ids=["length 0", "HTTP", "length 4 GiB", "length over the cap", "garbage", "field 20", "unknown field"],
)
def test_what_is_no_request_is_an_error_and_ends_the_session(data, code, shown, split):
    session = ServerSession()
    assert not split or session.receive(data[:split]) is None
    with raises(code, ProtocolError, "why", "remedy") as raised:
        session.receive(data[split:])
    assert shown in raised.value.why
    assert session.receive(NUM) is None
    with pytest.raises(SessionMisuseError):
        session.respond(GetSupportedAttKeyIdNumResponse(0, 1))


def test_an_answer_to_another_request_or_none_is_refused():
    session = ServerSession()
    session.receive(NUM[:5])
    with raises("session-misuse", SessionMisuseError):
        session.respond(GetSupportedAttKeyIdNumResponse(0, 1))
    session.receive(NUM[5:])
    with raises("session-misuse", SessionMisuseError, "why", naming="GetQuoteSizeEx"):
        session.respond(GetQuoteSizeExResponse(0, 4600))
    assert session.respond(GetSupportedAttKeyIdNumResponse(0, 1)) == NUM_ANSWER


def test_the_largest_request_is_taken():
    assert MAX_REQUEST_SIZE == 8_192 > 4 * 1667, "the largest request of a known client has 1,667 bytes"
    report = bytes(MAX_REQUEST_SIZE - len(encode_request(GetQuoteExRequest(b"", 1))) - 2)
    data = encode_frame(encode_request(GetQuoteExRequest(report, 1)))
    assert len(data) == 4 + MAX_REQUEST_SIZE
    assert isinstance(ServerSession().receive(data), Request)


def test_memory_is_bounded_by_the_request_whatever_arrives():
    flood = bytes(4 * 1024 * 1024)
    session = ServerSession()
    tracemalloc.start()
    try:
        session.receive(MAX_REQUEST_SIZE.to_bytes(4, "little"))
        after_header = tracemalloc.get_traced_memory()[1]
        for _ in range(2):
            with contextlib.suppress(ProtocolError):
                session.receive(flood)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert after_header < 4096, "room was taken for a length that was merely announced"
    assert peak < 4 * MAX_REQUEST_SIZE


@given(cuts=st.lists(st.integers(0, 40), max_size=6), trailing=st.binary(max_size=10))
def test_a_client_reads_its_answer_in_any_segmentation(cuts, trailing):
    session = ClientSession(GetSupportedAttKeyIdNumRequest(timeout=15000))
    assert session.data_to_send == NUM
    data = NUM_ANSWER + trailing
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    parts = [data[start:stop] for start, stop in itertools.pairwise(edges)]
    answers = [session.receive(part) for part in parts]
    assert [answer for answer in answers if answer] == [GetSupportedAttKeyIdNumResponse(0, 1)]


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_a_client_raises_nothing_but_ours(parts):
    session = ClientSession(GetQuoteSizeExRequest())
    try:
        for part in [*parts, b""]:
            session.receive(part)
    except (ProtocolError, ConnectionClosedError):
        return
    pytest.fail("an ended stream without an answer went unnoticed")
