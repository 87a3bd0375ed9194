"""Intel's rules for parameters, one row each, as observed on its server."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import messages as m
from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.request_checks import MAX_QUOTE_BUFFER_SIZE, NeedIdentity, NeedQuote, NeedQuoteSize, plan, refuse
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

KEY = ECDSA_P256_KEY_ID.encode()
REPORT = bytes(range(216)) * 2
INFO = bytes(range(240)) * 4
HEADER = bytes.fromhex("00000000 01000000")
JUNK = 140723891626680
"""A stack address: what Intel's ql wrapper was seen to send as buf_size."""


def key(**changes) -> bytes:
    return dataclasses.replace(ECDSA_P256_KEY_ID, **changes).encode()


BAD_KEYS = [
    pytest.param(None, Code.PARAMETER_ERROR, id="absent"),
    pytest.param(b"", Code.PARAMETER_ERROR, id="empty"),
    pytest.param(KEY[:158], Code.PARAMETER_ERROR, id="158 bytes"),
    pytest.param(KEY[:255], Code.PARAMETER_ERROR, id="255 bytes"),
    pytest.param(bytes(256), Code.UNSUPPORTED_ATT_KEY_ID, id="zeros"),
    pytest.param(key(mrsigner=bytes(48)), Code.UNSUPPORTED_ATT_KEY_ID, id="other signer"),
    pytest.param(key(algorithm_id=0), Code.UNSUPPORTED_ATT_KEY_ID, id="EPID"),
    pytest.param(key(algorithm_id=3), Code.UNSUPPORTED_ATT_KEY_ID, id="P-384"),
    pytest.param(key(algorithm_id=2 + (1 << 24)), Code.UNSUPPORTED_ATT_KEY_ID, id="last compared byte"),
    pytest.param(key(id=1), Code.UNSUPPORTED_ATT_KEY_ID, id="first compared byte"),
]
GOOD_KEYS = [
    pytest.param(KEY, id="exact"),
    pytest.param(KEY + bytes(44), id="300 bytes"),
    pytest.param(key(spid=b"\xff" * 16, att_key_type=2, reserved=b"\xff" * 80), id="caller's own bytes"),
]


def test_one_key_is_supported_and_needs_no_provider():
    assert plan(m.GetSupportedAttKeyIdNumRequest(timeout=1)) == m.GetSupportedAttKeyIdNumResponse(0, 1)
    assert plan(m.GetSupportedAttKeyIdsRequest(buf_size=256)) == m.GetSupportedAttKeyIdsResponse(0, KEY)


@pytest.mark.parametrize("size", [0, 255, 257, 512, 2**32 - 1])
def test_ids_only_fit_a_buffer_of_exactly_their_size(size):
    assert plan(m.GetSupportedAttKeyIdsRequest(buf_size=size)) == m.GetSupportedAttKeyIdsResponse(3)


def test_without_a_list_the_preferred_key_is_selected():
    assert plan(m.SelectAttKeyIdRequest()) == m.SelectAttKeyIdResponse(0, KEY)


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(b"", id="empty"),
        pytest.param(HEADER[:7], id="cut header"),
        pytest.param(HEADER, id="header only"),
        pytest.param(HEADER + KEY[:255], id="cut entry"),
        pytest.param(HEADER + KEY + b"\0", id="a byte too many"),
        pytest.param(bytes.fromhex("01000000 01000000") + KEY, id="id 1"),
        pytest.param(bytes.fromhex("00000100 01000000") + KEY, id="version 1"),
        pytest.param(bytes.fromhex("00000000 02000000") + KEY, id="count too large"),
        pytest.param(bytes.fromhex("00000000 00000000") + KEY, id="count 0 with an entry"),
        pytest.param(bytes.fromhex("00000000 00000000"), id="count 0"),
        pytest.param(bytes.fromhex("00000000 0b000000") + KEY * 11, id="11 entries"),
        pytest.param(bytes.fromhex("00000000 ffffffff") + KEY, id="count of 4 Gi"),
    ],
)
def test_lists_that_are_none_are_refused(listed):
    assert plan(m.SelectAttKeyIdRequest(listed)) == m.SelectAttKeyIdResponse(3)


@pytest.mark.parametrize("entry", [bytes(256), key(algorithm_id=0), key(mrsigner=bytes(48))])
def test_a_list_without_a_supported_key_is_unsupported(entry):
    assert plan(m.SelectAttKeyIdRequest(HEADER + entry)) == m.SelectAttKeyIdResponse(38)


def test_a_key_that_straddles_two_entries_is_none_of_them():
    header = bytes.fromhex("00000000 02000000")
    assert plan(m.SelectAttKeyIdRequest(header + bytes(100) + KEY + bytes(156))) == m.SelectAttKeyIdResponse(38)


def test_the_callers_own_bytes_of_the_selected_entry_go_back():
    own = key(spid=b"\x55" * 16, reserved=b"\x66" * 80)
    header = bytes.fromhex("00000000 0a000000")
    listed = header + key(algorithm_id=1) + own + KEY + bytes(256) * 7
    assert plan(m.SelectAttKeyIdRequest(listed)) == m.SelectAttKeyIdResponse(0, own)


@pytest.mark.parametrize("buf_size", [None, 0, 1, 32, JUNK, 2**64 - 1])
@pytest.mark.parametrize("key_id", GOOD_KEYS)
def test_init_for_the_size_never_looks_at_the_buffer(buf_size, key_id):
    request = m.InitQuoteExRequest(b_pub_key_id=False, att_key_id=key_id, buf_size=buf_size)
    assert plan(request) == m.InitQuoteExResponse(0, bytes(512), 32)


@pytest.mark.parametrize("key_id", GOOD_KEYS)
def test_init_for_the_identity_needs_the_provider(key_id):
    need = plan(m.InitQuoteExRequest(b_pub_key_id=True, att_key_id=key_id, buf_size=32))
    target = TargetInfo(mr_enclave=b"\x11" * 32, flags=0x15, xfrm=7)
    assert need == NeedIdentity()
    assert need.answer(target, b"\x22" * 32) == m.InitQuoteExResponse(0, target.encode(), 32, b"\x22" * 32)
    assert need.refuse(Code.BUSY) == m.InitQuoteExResponse(18, None, 32)


@pytest.mark.parametrize(("buf_size", "echoed"), [(None, 0), (0, 0), (31, 31), (33, 33), (JUNK, JUNK)])
def test_init_for_the_identity_refuses_another_buffer_and_echoes_it(buf_size, echoed):
    request = m.InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY, buf_size=buf_size)
    assert plan(request) == m.InitQuoteExResponse(3, None, echoed)


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize(("buf_size", "echoed"), [(None, 0), (32, 32), (JUNK, JUNK)])
@pytest.mark.parametrize(("key_id", "code"), BAD_KEYS)
def test_init_refuses_keys_and_echoes_the_buffer(identity, buf_size, echoed, key_id, code):
    request = m.InitQuoteExRequest(b_pub_key_id=identity, att_key_id=key_id, buf_size=buf_size)
    assert plan(request) == m.InitQuoteExResponse(code, None, echoed)


@pytest.mark.parametrize("key_id", GOOD_KEYS)
def test_size_needs_the_provider(key_id):
    need = plan(m.GetQuoteSizeExRequest(key_id))
    assert need == NeedQuoteSize()
    assert need.answer(4600) == m.GetQuoteSizeExResponse(0, 4600)
    assert need.refuse(Code.SERVICE_UNAVAILABLE) == m.GetQuoteSizeExResponse(30, 0)


@pytest.mark.parametrize(("key_id", "code"), BAD_KEYS)
def test_size_refuses_keys(key_id, code):
    assert plan(m.GetQuoteSizeExRequest(key_id)) == m.GetQuoteSizeExResponse(code, 0)


@pytest.mark.parametrize("key_id", GOOD_KEYS)
@pytest.mark.parametrize("info", [None, INFO])
@pytest.mark.parametrize("buf_size", [1, 4600, 8192, 65_536])
def test_a_quote_needs_the_provider(key_id, info, buf_size):
    need = plan(m.GetQuoteExRequest(REPORT, buf_size, key_id, info))
    parsed = None if info is None else QeReportInfo.parse(info)
    assert need == NeedQuote(Report.parse(REPORT), parsed, buf_size)


@pytest.mark.parametrize(("key_id", "code"), BAD_KEYS)
@pytest.mark.parametrize("info", [None, INFO])
def test_a_quote_is_refused_for_its_key_and_qe_report_info_goes_back(key_id, code, info):
    assert plan(m.GetQuoteExRequest(REPORT, 4600, key_id, info)) == m.GetQuoteExResponse(code, None, info)


@pytest.mark.parametrize(
    ("report", "buf_size", "info", "echoed"),
    [
        (b"", 4600, None, None),
        (REPORT[:431], 4600, None, None),
        (REPORT + b"\0", 4600, INFO, INFO),
        (REPORT, 4600, INFO[:959], INFO[:959]),
        (REPORT, 4600, INFO + b"\0", INFO + b"\0"),
        (REPORT, 4600, b"", None),
        (REPORT, 0, None, None),
        (REPORT, 65_537, INFO, INFO),
        (REPORT, 64 * 1024 * 1024, None, None),
        (REPORT, 2**32 - 1, None, None),
    ],
)
@pytest.mark.parametrize("key", [(KEY, 3), (bytes(256), 38), (bytes(255), 3), (None, 3)])
def test_a_quote_is_refused_for_its_sizes_after_its_key(report, buf_size, info, echoed, key):
    key_id, code = key
    assert plan(m.GetQuoteExRequest(report, buf_size, key_id, info)) == m.GetQuoteExResponse(code, None, echoed)


@pytest.mark.parametrize(("buf_size", "code"), [(4599, 3), (4600, 42), (4601, 42)])
def test_a_buffer_that_is_too_small_comes_before_a_report_that_is_rejected(buf_size, code):
    need = need_quote(buf_size, QeReportInfo.parse(INFO))
    assert need.reject_report(Code.ATT_KEY_NOT_INITIALIZED, 4600) == m.GetQuoteExResponse(code, None, INFO)


def need_quote(buf_size: int, info: QeReportInfo | None = None) -> NeedQuote:
    return NeedQuote(Report.parse(REPORT), info, buf_size)


def test_a_quote_fills_the_buffer_with_zeros_behind_it():
    assert need_quote(8).answer(b"quote", None) == m.GetQuoteExResponse(0, b"quote\0\0\0", None)
    assert need_quote(5).answer(b"quote", None) == m.GetQuoteExResponse(0, b"quote", None)


def test_a_buffer_smaller_than_the_quote_is_refused():
    info = QeReportInfo.parse(INFO)
    assert need_quote(4).answer(b"quote", None) == m.GetQuoteExResponse(3, None, None)
    assert need_quote(4, info).answer(b"quote", info) == m.GetQuoteExResponse(3, None, INFO)


def test_the_providers_qe_report_goes_back():
    asked = QeReportInfo.parse(INFO)
    made = dataclasses.replace(asked, qe_report=b"\x77" * 432)
    assert need_quote(5, asked).answer(b"quote", made).qe_report_info == made.encode()


def test_whoever_gave_qe_report_info_gets_one_even_from_a_provider_that_made_none():
    asked = QeReportInfo.parse(INFO)
    assert need_quote(5, asked).answer(b"quote", None).qe_report_info == INFO


def test_a_failed_quote_returns_qe_report_info_as_it_came():
    assert need_quote(5).refuse(Code.INVALID_REPORT) == m.GetQuoteExResponse(47, None, None)
    asked = QeReportInfo.parse(INFO)
    assert need_quote(5, asked).refuse(Code.INVALID_REPORT) == m.GetQuoteExResponse(47, None, INFO)


REFUSALS = [
    (m.MessageKind.INIT_QUOTE_EX, m.InitQuoteExResponse(1, pub_key_id_size=0)),
    (m.MessageKind.GET_QUOTE_SIZE_EX, m.GetQuoteSizeExResponse(1, 0)),
    (m.MessageKind.GET_QUOTE_EX, m.GetQuoteExResponse(1)),
    (m.MessageKind.SELECT_ATT_KEY_ID, m.SelectAttKeyIdResponse(1)),
    (m.MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM, m.GetSupportedAttKeyIdNumResponse(1, 0)),
    (m.MessageKind.GET_SUPPORTED_ATT_KEY_IDS, m.GetSupportedAttKeyIdsResponse(1)),
]


@pytest.mark.parametrize(("kind", "response"), REFUSALS)
def test_incomplete_requests_get_error_1_of_their_own_kind(kind, response):
    assert plan(m.IncompleteRequest(kind, ("report",))) == response
    assert refuse(kind, Code.UNEXPECTED_ERROR) == response


@pytest.mark.parametrize("kind", sorted(set(m.MessageKind) - {kind for kind, _ in REFUSALS}))
def test_legacy_requests_get_error_30_of_their_own_kind(kind):
    assert plan(m.LegacyRequest(kind)) == m.LegacyResponse(kind, 30)


@given(size=st.integers(0, 3000), buf_size=st.integers(1, MAX_QUOTE_BUFFER_SIZE))
def test_the_answer_is_never_larger_than_the_buffer(size, buf_size):
    response = need_quote(buf_size).answer(b"q" * size, None)
    if size > buf_size:
        assert response == m.GetQuoteExResponse(3)
    else:
        assert response.quote == b"q" * size + bytes(buf_size - size)
