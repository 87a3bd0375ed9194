import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import messages as m
from confcom.aesm.errors import MalformedMessageError, UnknownRequestError
from confcom.aesm.message_codec import SERVING_ORDER, decode_request, decode_response, encode_request, encode_response
from testkit.raised import raises
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
LEGACY = [1, 2, 3, 4, 10, 11, 12, 13, 14, 18]
LIVE = [15, 16, 17, 19, 21, 22]
# Serves each kind: enough for those with required fields, and nothing for the others.
MINIMAL = {
    15: m.InitQuoteExRequest(b_pub_key_id=False),
    16: m.GetQuoteSizeExRequest(),
    17: m.GetQuoteExRequest(report=b"", buf_size=0),
    19: m.SelectAttKeyIdRequest(),
    21: m.GetSupportedAttKeyIdNumRequest(),
    22: m.GetSupportedAttKeyIdsRequest(buf_size=0),
}


def field(number: int, content: bytes = b"") -> bytes:
    """A length-delimited field, written by hand."""
    return wire.data(number, content)


def minimal(number: int) -> bytes:
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
        with pytest.raises(MalformedMessageError):
            decode_request(body[:size])


@pytest.mark.parametrize("first", SERVING_ORDER)
@pytest.mark.parametrize("second", SERVING_ORDER)
def test_of_two_requests_in_one_the_priority_decides_not_the_order_on_the_wire(first, second):
    expected = min(first, second, key=[15, 16, 17, 19, 21, 22, 3, 1, 2, 4, 18, 10, 11, 12, 13, 14].index)
    assert decode_request(minimal(first) + minimal(second)).kind == expected


def test_every_kind_has_a_priority():
    assert sorted(SERVING_ORDER) == sorted(m.MessageKind) == sorted(LEGACY + LIVE)


@pytest.mark.parametrize("number", LEGACY)
@pytest.mark.parametrize("content", [b"", bytes.fromhex("0a03616263"), bytes.fromhex("10ff01489875"), b"\xff" * 9])
def test_legacy_requests_are_recognised_whatever_they_ask(number, content):
    assert decode_request(field(number, content)) == m.LegacyRequest(m.MessageKind(number))


@pytest.mark.parametrize("number", [5, 6, 7, 8, 9, 20, 23, 99])
def test_unknown_requests_are_not_answered(number):
    with raises("unknown-request", UnknownRequestError, "why", "remedy"):
        decode_request(field(number))


@pytest.mark.parametrize("number", LIVE)
def test_unknown_fields_beside_and_inside_a_request_are_skipped(number):
    plain = decode_request(minimal(number))
    assert decode_request(field(99, b"x") + minimal(number) + field(20)) == plain
    inner = minimal(number)
    content = wire.fields(inner)[number]
    assert decode_request(field(number, content + field(77, b"new"))) == plain


@pytest.mark.parametrize(
    ("number", "content", "missing"),
    [
        (15, "", ("b_pub_key_id",)),
        (15, "0a0100 2020", ("b_pub_key_id",)),
        (17, "", ("report", "buf_size")),
        (17, "2001", ("report",)),
        (17, "0a00", ("buf_size",)),
        (22, "", ("buf_size",)),
        (22, "489875", ("buf_size",)),
    ],
)
def test_a_request_without_what_it_needs_is_known_as_such(number, content, missing):
    request = decode_request(field(number, bytes.fromhex(content)))
    assert request == m.IncompleteRequest(m.MessageKind(number), missing)


@pytest.mark.parametrize("body", [b"", wire.number(15, 1)], ids=["empty", "known field of another wire type"])
def test_a_body_without_any_request_is_not_answered(body):
    with raises("unknown-request", UnknownRequestError):
        decode_request(body)


@pytest.mark.parametrize("body", [b"\xff" * 16, b"\x7a", b"\x7a\x05\x18", b"\x0b\x0b\x0b"])
def test_garbage_is_refused(body):
    with raises("not-an-aesm-message", MalformedMessageError, "why", "remedy") as caught:
        decode_request(body)
    assert f"{len(body)} " in caught.value.what


def test_deep_nesting_is_refused_not_followed():
    with pytest.raises(MalformedMessageError):
        decode_request(b"\x0b" * 30_000 + b"\x0c" * 30_000)


@given(st.binary(max_size=600))
def test_arbitrary_bytes_raise_nothing_but_ours(body):
    try:
        request = decode_request(body)
    except (MalformedMessageError, UnknownRequestError):
        return
    assert request.kind in SERVING_ORDER


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (m.InitQuoteExResponse(0), "7a02 0800"),
        (m.GetQuoteSizeExResponse(0), "820102 0800"),
        (m.GetQuoteExResponse(0), "8a0102 0800"),
        (m.SelectAttKeyIdResponse(0), "9a0102 0800"),
        (m.GetSupportedAttKeyIdNumResponse(0), "aa0102 0800"),
        (m.GetSupportedAttKeyIdsResponse(0), "b20102 0800"),
        (m.GetQuoteExResponse(3), "8a0102 0803"),
        (m.InitQuoteExResponse(3, pub_key_id_size=0), "7a04 0803 1800"),
        (m.GetQuoteSizeExResponse(3, 0), "820104 0803 1000"),
        (m.LegacyResponse(m.MessageKind.INIT_QUOTE, 30), "0a02 081e"),
        (m.LegacyResponse(m.MessageKind.GET_WHITE_LIST_SIZE, 30), "5204 081e 1000"),
        (m.LegacyResponse(m.MessageKind.GET_WHITE_LIST, 30), "5a02 081e"),
        (m.LegacyResponse(m.MessageKind.SGX_GET_EXTENDED_EPID_GROUP_ID, 30), "6204 081e 1000"),
        (m.LegacyResponse(m.MessageKind.CHECK_UPDATE_STATUS, 30), "920104 081e 1800"),
        (m.LegacyResponse(m.MessageKind.SGX_REGISTER, 0), "7202 0800"),
    ],
)
def test_responses_are_written_as_intels_server_writes_them(response, expected):
    assert encode_response(response) == bytes.fromhex(expected)


def test_an_answer_to_another_request_is_refused():
    body = encode_response(m.GetQuoteSizeExResponse(0, 4600))
    with raises("answer-to-another-request", MalformedMessageError, "remedy") as caught:
        decode_response(body, m.MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM)
    assert "GetSupportedAttKeyIDNum" in caught.value.what


def test_an_answer_without_error_code_is_refused():
    with raises("answer-without-error-code", MalformedMessageError, "why", "remedy") as caught:
        decode_response(field(16, bytes.fromhex("10f823")), m.MessageKind.GET_QUOTE_SIZE_EX)
    assert "GetQuoteSizeEx" in caught.value.what


@pytest.mark.parametrize("body", [b"", b"\xff" * 8, field(20, b"\x08\x01")])
def test_what_is_no_answer_is_refused(body):
    with pytest.raises(MalformedMessageError):
        decode_response(body, m.MessageKind.INIT_QUOTE_EX)


def test_calls_are_named_as_in_intels_documents():
    assert [m.MessageKind(number).call for number in LIVE] == [
        "InitQuoteEx",
        "GetQuoteSizeEx",
        "GetQuoteEx",
        "SelectAttKeyID",
        "GetSupportedAttKeyIDNum",
        "GetSupportedAttKeyIDs",
    ]
