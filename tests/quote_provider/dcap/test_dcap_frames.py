"""Frames between the helper and its child, and the names of errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.errors import MalformedError
from confcom.quote_provider.dcap.error_codes import Quote3Error, aesm_code, describe, ends_child, refusal
from confcom.quote_provider.dcap.frames import (
    MAX_ANSWER_SIZE,
    MAX_QUOTE_SIZE,
    MAX_TEXT_SIZE,
    REQUEST_SIZE,
    Answer,
    Call,
    Loaded,
    Request,
)
from confcom.sgx.report import QE_REPORT_INFO_SIZE, REPORT_SIZE
from testkit.raised import raises, require_style

requests = st.builds(
    Request,
    st.sampled_from(Call),
    st.integers(0, MAX_QUOTE_SIZE),
    st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE),
    st.none() | st.binary(min_size=QE_REPORT_INFO_SIZE, max_size=QE_REPORT_INFO_SIZE),
)


@given(requests)
def test_a_request_returns_whole(request):
    encoded = request.encode()
    assert len(encoded) == REQUEST_SIZE
    assert Request.parse(encoded) == request


@given(st.binary(max_size=2 * REQUEST_SIZE) | st.binary(min_size=REQUEST_SIZE, max_size=REQUEST_SIZE))
def test_other_bytes_are_no_request(data):
    try:
        request = Request.parse(data)
    except MalformedError:
        return
    assert len(data) == REQUEST_SIZE
    assert request.size <= MAX_QUOTE_SIZE


ANSWERS = [
    (Request(Call.INIT), Answer(Call.INIT, 0, target_info=bytes(range(256)) * 2, pub_key_id=b"k" * 32)),
    (Request(Call.SIZE), Answer(Call.SIZE, 0, size=4600)),
    (Request(Call.QUOTE, 7), Answer(Call.QUOTE, 0, qe_report_info=b"i" * 960, quote=b"a quote")),
    (Request(Call.QUOTE, 7), Answer(Call.QUOTE, 0xE019)),
]


@pytest.mark.parametrize(("request_", "answer"), ANSWERS)
def test_an_answer_returns_whole_and_only_to_its_request(request_, answer):
    encoded = answer.encode()
    assert len(encoded) <= MAX_ANSWER_SIZE
    assert Answer.parse(encoded, request_) == answer
    for wrong in (b"", encoded[:3], encoded[:-1], encoded + b"x"):
        with raises("dcap-malformed", MalformedError):
            Answer.parse(wrong, request_)
    other = Request(Call.SIZE if request_.call is Call.INIT else Call.INIT)
    with raises("dcap-malformed", MalformedError):
        Answer.parse(encoded, other)


@given(st.binary(max_size=3000), st.sampled_from(ANSWERS))
def test_other_bytes_are_no_answer(data, pair):
    try:
        Answer.parse(data, pair[0])
    except MalformedError:
        return
    assert data[0] == pair[0].call


def test_the_first_frame():
    loaded = Loaded(quoting=True, provider_library=False, text="ä" * MAX_TEXT_SIZE)
    parsed = Loaded.parse(loaded.encode())
    assert (parsed.quoting, parsed.provider_library, parsed.text) == (True, False, "ä" * (MAX_TEXT_SIZE // 2))
    for wrong in (b"", b"\1", bytes(2 + MAX_TEXT_SIZE + 1)):
        with raises("dcap-malformed", MalformedError):
            Loaded.parse(wrong)


def test_errors_have_intels_names():
    assert describe(0xE019) == "0xe019 (SGX_QL_NETWORK_ERROR)"
    assert describe(0x2006) == "0x2006 (unknown)"
    assert len(Quote3Error) == 1 + 0x35 + 19 + 4 + 9 + 4


@pytest.mark.parametrize("status", [*Quote3Error, 0x2006, 0xF001])
def test_every_error_has_a_code_for_clients_and_says_what_to_do(status):
    if status:
        for call in Call:
            error = refusal(call, status)
            require_style(error, "remedy")
            assert error.code == aesm_code(status) != Code.SUCCESS
            assert (call.function in error.what, f"0x{status:04x}" in error.what) == (True, True)


def test_codes_that_clients_act_on_are_intels():
    expected = {0xE00F: 42, 0xE015: 47, 0xE002: 3, 0xE011: 44, 0xE012: 29, 0xE019: 12, 0xE014: 46, 0xE017: 49}
    assert {status: aesm_code(status) for status in expected} == expected
    assert aesm_code(0xDEAD) is Code.UNEXPECTED_ERROR


def test_which_errors_end_the_child():
    ending = {0xE001, 0xE012, 0xE014, 0xE016, 0xE035}
    for status in Quote3Error:
        assert ends_child(Call.INIT, status) == (status != 0)
        assert ends_child(Call.SIZE, status) == ends_child(Call.QUOTE, status) == (status in ending)
