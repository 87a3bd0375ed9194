import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import conversation
from confcom.aesm import messages as m
from confcom.aesm.errors import ProtocolError, SessionMisuseError
from confcom.errors import ConfcomError, MalformedError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import QeReportInfo
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from testkit.expected_errors import raises

KEY = ECDSA_P256_KEY_ID.encode()
ENCLAVE = SimulatedEnclave.from_name("conversation test")
NONCE = bytes(range(16))


def converse(talk, *answers):
    """Give a conversation these answers in order; return the conversation's result and its requests."""
    asked = [next(talk)]
    try:
        for answer in answers:
            request = talk.send(answer)
            asked.append(request)
    except StopIteration as finished:
        return finished.value, asked
    pytest.fail("the conversation asks for more")


@pytest.fixture(scope="session")
def quoting_enclave():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return SimulatedPlatform.create(bytes(32), now).quoting_enclave()


@pytest.fixture
def report(quoting_enclave):
    return ENCLAVE.create_report(quoting_enclave.checker.target, bytes(range(64)))


@pytest.fixture
def asked_info():
    return QeReportInfo(NONCE, ENCLAVE.target_info(), bytes(432))


def test_init_asks_for_the_identity_as_intels_client_does(quoting_enclave):
    answer = m.InitQuoteExResponse(0, quoting_enclave.checker.target.encode(), 32, b"k" * 32)
    target, asked = converse(conversation.init_quote(), answer)
    assert target == conversation.QuotingTarget(quoting_enclave.checker.target, b"k" * 32)
    assert asked == [m.InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY, buf_size=32, timeout=15000)]
    key = b"k" * 32
    for sizes in ((None, key), (bytes(511), key), (bytes(513), key), (bytes(512), None), (bytes(512), key[1:])):
        with pytest.raises(MalformedError):
            converse(conversation.init_quote(), m.InitQuoteExResponse(0, sizes[0], 32, sizes[1]))


def test_quotes_have_1_to_16384_bytes():
    for size in (None, 0, 16385, 2**32 - 1):
        with raises("not-an-aesm-message", ProtocolError, "why", "remedy", naming=f" {size or 0} "):
            converse(conversation.quote_size(), m.GetQuoteSizeExResponse(0, size))
    for size in (1, 16384):
        result, asked = converse(conversation.quote_size(), m.GetQuoteSizeExResponse(0, size))
        assert (result, asked) == (size, [m.GetQuoteSizeExRequest(KEY, 15000)])
    with raises("session-misuse", SessionMisuseError):
        converse(conversation.quote_size(), m.GetSupportedAttKeyIdNumResponse(0, 1))


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


def test_another_quote_is_refused(report, quoting_enclave):
    for nothing in (None, b"", bytes(435), bytes(6000), b"\3\0\2\0" + bytes(6000)):
        with pytest.raises(MalformedError):
            get_quote(report, m.GetQuoteExResponse(0, nothing))
    quote, _ = quoting_enclave.quote(report, None)
    other, _ = quoting_enclave.quote(ENCLAVE.create_report(quoting_enclave.checker.target, bytes(64)), None)
    for wrong, code in (
        (quote[:-1], "truncated"),
        (quote + b"\0\0\1", "not-an-aesm-message"),
        (other, "quote-of-another-report"),
    ):
        with raises(code, MalformedError):
            get_quote(report, m.GetQuoteExResponse(0, wrong))


def test_the_qe_report_is_checked_as_far_as_anybody_can(report, quoting_enclave, asked_info):
    quote, made = quoting_enclave.quote(report, asked_info)
    result = get_quote(report, m.GetQuoteExResponse(0, quote + bytes(9), made.encode()), asked_info)
    assert result == conversation.AesmQuote(quote, made)
    other_report = ENCLAVE.create_report(quoting_enclave.checker.target, bytes(64))
    other_quote, about_other = quoting_enclave.quote(other_report, asked_info)
    assert other_quote != quote
    for size in (None, 0, 959, 961):
        with pytest.raises(MalformedError):
            get_quote(report, m.GetQuoteExResponse(0, quote, None if size is None else bytes(size)), asked_info)
    other_target = SimulatedEnclave.from_name("other").target_info()
    for wrong, code in [
        (dataclasses.replace(made, nonce=bytes(16)), "qe-report-of-another-quote"),
        (dataclasses.replace(made, app_enclave_target_info=other_target), "qe-report-of-another-quote"),
        (about_other, "qe-report-of-another-quote"),
        (asked_info, "qe-report-of-another-quote"),
    ]:
        with raises(code, ProtocolError):
            get_quote(report, m.GetQuoteExResponse(0, quote, wrong.encode()), asked_info)


def key_ids(count, data):
    answers = (m.GetSupportedAttKeyIdNumResponse(0, count), m.GetSupportedAttKeyIdsResponse(0, data))
    return converse(conversation.supported_key_ids(), *answers)


def test_key_ids_are_counted_first():
    other = dataclasses.replace(ECDSA_P256_KEY_ID, algorithm_id=1)
    result, asked = key_ids(2, KEY + other.encode())
    assert result == (ECDSA_P256_KEY_ID, other)
    assert asked == [m.GetSupportedAttKeyIdNumRequest(15000), m.GetSupportedAttKeyIdsRequest(512, 15000)]
    assert len(key_ids(10, KEY * 10)[0]) == 10
    for count in (None, 0, 11, 2**32 - 1):
        with raises("not-an-aesm-message", ProtocolError):
            key_ids(count, b"")
    for data in (None, b"", KEY[:-1], KEY + b"\0"):
        with raises("not-an-aesm-message", ProtocolError):
            key_ids(1, data)


@given(quote=st.binary(max_size=600), info=st.none() | st.binary(max_size=1000))
def test_arbitrary_answers_raise_nothing_but_ours(quoting_enclave, quote, info):
    report = ENCLAVE.create_report(quoting_enclave.checker.target, bytes(64))
    with pytest.raises(ConfcomError):
        get_quote(report, m.GetQuoteExResponse(0, quote, info))
