"""What the client believes of an answer, without a socket."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import messages as m
from confcom.aesm.errors import MalformedMessageError, SessionMisuseError
from confcom.client import conversation
from confcom.errors import ConfcomError, MalformedError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import QeReportInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.raised import raises

KEY = ECDSA_P256_KEY_ID.encode()
ENCLAVE = SimulatedEnclave.from_name("conversation test")
NONCE = bytes(range(16))


def converse(talk, *answers):
    """Give the answers one after the other; the result, and what was asked."""
    asked = [next(talk)]
    try:
        for answer in answers:
            request = talk.send(answer)
            asked.append(request)
    except StopIteration as finished:
        return finished.value, asked
    pytest.fail("the conversation asks for more")


@pytest.fixture
def report(quoting_enclave):
    return ENCLAVE.create_report(quoting_enclave.target_info, bytes(range(64)))


@pytest.fixture
def asked_info():
    return QeReportInfo(NONCE, ENCLAVE.target_info(), bytes(432))


def test_init_asks_for_the_identity_as_intels_client_does(quoting_enclave):
    answer = m.InitQuoteExResponse(0, quoting_enclave.target_info.encode(), 32, b"k" * 32)
    target, asked = converse(conversation.init_quote(), answer)
    assert target == conversation.QuotingTarget(quoting_enclave.target_info, b"k" * 32)
    assert asked == [m.InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY, buf_size=32, timeout=15000)]


@pytest.mark.parametrize(
    ("target_info", "pub_key_id"),
    [(None, b"k" * 32), (bytes(511), b"k" * 32), (bytes(513), b"k" * 32), (bytes(512), None), (bytes(512), b"k" * 31)],
)
def test_init_refuses_other_sizes(target_info, pub_key_id):
    with pytest.raises(MalformedError):
        converse(conversation.init_quote(), m.InitQuoteExResponse(0, target_info, 32, pub_key_id))


@pytest.mark.parametrize("size", [None, 0, 65537, 2**32 - 1])
def test_no_quote_has_such_a_size(size):
    with raises("wrong-quote-size", MalformedMessageError, "why", "remedy") as caught:
        converse(conversation.quote_size(), m.GetQuoteSizeExResponse(0, size))
    assert f" {size or 0} " in caught.value.what


@pytest.mark.parametrize("size", [1, 65536])
def test_sizes_that_can_be(size):
    result, asked = converse(conversation.quote_size(), m.GetQuoteSizeExResponse(0, size))
    assert result == size
    assert asked == [m.GetQuoteSizeExRequest(KEY, 15000)]


def test_padding_is_taken_off(report, quoting_enclave):
    quote, _ = quoting_enclave.quote(report, None)
    size = m.GetQuoteSizeExResponse(0, len(quote) + 100)
    result, asked = converse(
        conversation.get_quote(report), size, m.GetQuoteExResponse(0, quote + bytes(100), bytes(960))
    )
    assert result == conversation.AesmQuote(quote, None)
    assert asked[1] == m.GetQuoteExRequest(report.encode(), len(quote) + 100, KEY, None, 15000)


def get_quote(report, response, info=None):
    return converse(conversation.get_quote(report, info), m.GetQuoteSizeExResponse(0, 6000), response)[0]


@pytest.mark.parametrize("quote", [None, b"", bytes(435), bytes(6000), b"\3\0\2\0" + bytes(6000)])
def test_what_is_no_quote_is_refused(report, quote):
    with pytest.raises(MalformedError):
        get_quote(report, m.GetQuoteExResponse(0, quote))


def test_a_quote_that_is_cut_followed_by_other_data_or_over_another_report_is_refused(report, quoting_enclave):
    quote, _ = quoting_enclave.quote(report, None)
    other, _ = quoting_enclave.quote(ENCLAVE.create_report(quoting_enclave.target_info, bytes(64)), None)
    for wrong, code in (
        (quote[:-1], "truncated"),
        (quote + b"\0\0\1", "excess-bytes"),
        (other, "quote-of-another-report"),
    ):
        with raises(code, MalformedError):
            get_quote(report, m.GetQuoteExResponse(0, wrong))


def test_the_qe_report_is_checked_as_far_as_anybody_can(report, quoting_enclave, asked_info):
    quote, made = quoting_enclave.quote(report, asked_info)
    result = get_quote(report, m.GetQuoteExResponse(0, quote + bytes(9), made.encode()), asked_info)
    assert result == conversation.AesmQuote(quote, made)
    other_quote, about_other = quoting_enclave.quote(
        ENCLAVE.create_report(quoting_enclave.target_info, bytes(64)), asked_info
    )
    assert other_quote != quote
    other_target = SimulatedEnclave.from_name("other").target_info()
    for wrong, code in [
        (dataclasses.replace(made, nonce=bytes(16)), "qe-report-of-another-request"),
        (dataclasses.replace(made, app_enclave_target_info=other_target), "qe-report-of-another-request"),
        (about_other, "qe-report-of-another-quote"),
        (asked_info, "qe-report-of-another-quote"),
    ]:
        with raises(code, MalformedMessageError):
            get_quote(report, m.GetQuoteExResponse(0, quote, wrong.encode()), asked_info)


@pytest.mark.parametrize("size", [None, 0, 959, 961])
def test_a_missing_or_misshapen_qe_report_is_refused(report, quoting_enclave, asked_info, size):
    quote, _ = quoting_enclave.quote(report, asked_info)
    answer = m.GetQuoteExResponse(0, quote, None if size is None else bytes(size))
    with pytest.raises(MalformedError):
        get_quote(report, answer, asked_info)


def test_key_ids_are_counted_first():
    other = dataclasses.replace(ECDSA_P256_KEY_ID, algorithm_id=1)
    result, asked = converse(
        conversation.supported_key_ids(),
        m.GetSupportedAttKeyIdNumResponse(0, 2),
        m.GetSupportedAttKeyIdsResponse(0, KEY + other.encode()),
    )
    assert result == (ECDSA_P256_KEY_ID, other)
    assert asked == [m.GetSupportedAttKeyIdNumRequest(15000), m.GetSupportedAttKeyIdsRequest(512, 15000)]


@pytest.mark.parametrize("count", [None, 0, 11, 2**32 - 1])
def test_no_service_has_so_many_keys(count):
    with raises("wrong-key-count", MalformedMessageError):
        converse(conversation.supported_key_ids(), m.GetSupportedAttKeyIdNumResponse(0, count))


@pytest.mark.parametrize("data", [None, b"", KEY[:-1], KEY + b"\0"])
def test_key_ids_of_another_size_are_refused(data):
    with raises("wrong-size", MalformedMessageError):
        converse(
            conversation.supported_key_ids(),
            m.GetSupportedAttKeyIdNumResponse(0, 1),
            m.GetSupportedAttKeyIdsResponse(0, data),
        )


def test_ten_keys_can_be():
    result, _ = converse(
        conversation.supported_key_ids(),
        m.GetSupportedAttKeyIdNumResponse(0, 10),
        m.GetSupportedAttKeyIdsResponse(0, KEY * 10),
    )
    assert len(result) == 10


def test_a_driver_that_mixes_up_answers_is_told():
    with raises("answer-to-another-request", SessionMisuseError):
        converse(conversation.quote_size(), m.GetSupportedAttKeyIdNumResponse(0, 1))


@given(quote=st.binary(max_size=600), info=st.none() | st.binary(max_size=1000))
def test_arbitrary_answers_raise_nothing_but_ours(quoting_enclave, quote, info):
    report = ENCLAVE.create_report(quoting_enclave.target_info, bytes(64))
    with pytest.raises(ConfcomError):
        get_quote(report, m.GetQuoteExResponse(0, quote, info))
