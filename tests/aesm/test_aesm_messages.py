import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import messages as m
from confcom.aesm.errors import ProtocolError
from confcom.aesm.message_codec import SERVING_ORDER, decode_request, decode_response, encode_request, encode_response
from testkit.expected_errors import raises
from testkit.replay import wire

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
BLOB = st.binary(max_size=400)


def maybe(strategy):
    return st.none() | strategy


REQUESTS = st.one_of(
    st.builds(m.InitQuoteExRequest, st.booleans(), maybe(BLOB), maybe(U64), maybe(U32)),
    st.builds(m.GetQuoteSizeExRequest, maybe(BLOB), maybe(U32)),
    st.builds(m.GetQuoteExRequest, BLOB, U32, maybe(BLOB), maybe(BLOB), maybe(U32)),
    st.builds(m.SelectAttKeyIdRequest, maybe(BLOB), maybe(U32)),
    st.builds(m.GetSupportedAttKeyIdNumRequest, maybe(U32)),
    st.builds(m.GetSupportedAttKeyIdsRequest, U32, maybe(U32)),
)
RESPONSES = st.one_of(
    st.builds(m.InitQuoteExResponse, U32, maybe(BLOB), maybe(U64), maybe(BLOB)),
    st.builds(m.GetQuoteSizeExResponse, U32, maybe(U32)),
    st.builds(m.GetQuoteExResponse, U32, maybe(BLOB), maybe(BLOB)),
    st.builds(m.SelectAttKeyIdResponse, U32, maybe(BLOB)),
    st.builds(m.GetSupportedAttKeyIdNumResponse, U32, maybe(U32)),
    st.builds(m.GetSupportedAttKeyIdsResponse, U32, maybe(BLOB)),
)
LIVE = [15, 16, 17, 19, 21, 22]
# One message of each kind, with only its required fields.
MINIMAL = {
    15: m.InitQuoteExRequest(b_pub_key_id=False),
    16: m.GetQuoteSizeExRequest(),
    17: m.GetQuoteExRequest(report=b"", buf_size=0),
    19: m.SelectAttKeyIdRequest(),
    21: m.GetSupportedAttKeyIdNumRequest(),
    22: m.GetSupportedAttKeyIdsRequest(buf_size=0),
}


def field(number, content=b""):
    return wire.data(number, content)


def minimal(number):
    return encode_request(MINIMAL[number]) if number in MINIMAL else field(number)


@given(REQUESTS)
def test_requests_round_trip(request):
    assert decode_request(encode_request(request)) == request


@given(RESPONSES)
def test_responses_round_trip(response):
    assert decode_response(encode_response(response), response.kind) == response


@given(REQUESTS)
def test_every_proper_prefix_of_a_request_is_refused(request):
    body = encode_request(request)
    for size in range(1, len(body)):
        with pytest.raises(ProtocolError):
            decode_request(body[:size])


def test_of_two_requests_in_one_the_priority_decides():
    order = [15, 16, 17, 19, 21, 22, 3, 1, 2, 4, 18, 10, 11, 12, 13, 14]
    assert sorted(SERVING_ORDER) == sorted(m.MessageKind) == sorted(order)
    for first, second in itertools.product(order, order):
        assert decode_request(minimal(first) + minimal(second)).kind == min(first, second, key=order.index)


def test_legacy_requests_are_recognised_whatever_they_ask():
    for number in (1, 2, 3, 4, 10, 11, 12, 13, 14, 18):
        for content in (b"", bytes.fromhex("0a03616263"), bytes.fromhex("10ff01489875"), b"\xff" * 9):
            assert decode_request(field(number, content)) == m.LegacyRequest(m.MessageKind(number))


def test_unknown_requests_and_garbage_are_not_answered():
    known_field_of_another_type = wire.number(15, 1)
    for body in (b"", known_field_of_another_type, *map(field, (5, 6, 7, 8, 9, 20, 23, 99))):
        with raises("unknown-request", ProtocolError, "why", "remedy"):
            decode_request(body)
    for body in (b"\xff" * 16, b"\x7a", b"\x7a\x05\x18", b"\x0b" * 3, b"\x0b" * 30_000 + b"\x0c" * 30_000):
        with raises("not-an-aesm-message", ProtocolError, "why", "remedy", naming=f"{len(body)} "):
            decode_request(body)


@pytest.mark.parametrize("number", LIVE)
def test_unknown_fields_beside_and_inside_a_request_are_skipped(number):
    plain = decode_request(minimal(number))
    assert decode_request(field(99, b"x") + minimal(number) + field(20)) == plain
    inner = minimal(number)
    assert decode_request(field(number, wire.fields(inner)[number] + field(77, b"new"))) == plain


@pytest.mark.parametrize(
    ("number", "content"),
    [(15, ""), (15, "0a0100 2020"), (17, ""), (17, "2001"), (17, "0a00"), (22, ""), (22, "489875")],
)
def test_a_request_without_what_it_needs_is_known_as_such(number, content):
    request = decode_request(field(number, bytes.fromhex(content)))
    assert request == m.IncompleteRequest(m.MessageKind(number))


@given(st.binary(max_size=600))
def test_arbitrary_bytes_raise_nothing_but_ours(body):
    try:
        request = decode_request(body)
    except ProtocolError:
        return
    assert request.kind in SERVING_ORDER


def test_an_answer_to_another_request_or_none_is_refused():
    size, num = m.MessageKind.GET_QUOTE_SIZE_EX, m.MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM
    body = encode_response(m.GetQuoteSizeExResponse(0, 4600))
    with raises("not-an-aesm-message", ProtocolError, "remedy", naming="GetSupportedAttKeyIDNum"):
        decode_response(body, num)
    with raises("not-an-aesm-message", ProtocolError, "why", "remedy", naming="GetQuoteSizeEx"):
        decode_response(field(16, bytes.fromhex("10f823")), size)
    for nothing in (b"", b"\xff" * 8, field(20, b"\x08\x01")):
        with pytest.raises(ProtocolError):
            decode_response(nothing, m.MessageKind.INIT_QUOTE_EX)
    names = [m.MessageKind(number).call for number in LIVE]
    assert names[:3] == ["InitQuoteEx", "GetQuoteSizeEx", "GetQuoteEx"]
    assert names[3:] == ["SelectAttKeyID", "GetSupportedAttKeyIDNum", "GetSupportedAttKeyIDs"]
