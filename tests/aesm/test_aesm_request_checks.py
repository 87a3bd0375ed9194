"""Intel's rules for parameters; tests/replay/test_reference_rows.py has the answers of Intel's server."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import messages as m
from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.request_checks import MAX_QUOTE_BUFFER_SIZE, NeedQuote, plan, refuse
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import QeReportInfo, Report

KEY = ECDSA_P256_KEY_ID.encode()
REPORT = bytes(range(216)) * 2
INFO = bytes(range(240)) * 4


@pytest.mark.parametrize(
    ("header", "entries", "code"),
    [
        ("00000000 010000", b"", 3),
        ("00000000 01000000", KEY + b"\0", 3),
        ("00000000 ffffffff", KEY, 3),
        ("00000000 02000000", bytes(100) + KEY + bytes(156), 38),
    ],
    ids=["cut header", "a byte too many", "4 Gi", "key across two entries"],
)
def test_lists_that_are_none_are_refused(header, entries, code):
    assert plan(m.SelectAttKeyIdRequest(bytes.fromhex(header) + entries)) == m.SelectAttKeyIdResponse(code)


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
        (REPORT, 2**32 - 1, None, None),
    ],
)
def test_a_quote_is_refused_for_its_sizes_after_its_key(report, buf_size, info, echoed):
    for key_id, code in ((KEY, 3), (bytes(256), 38), (bytes(255), 3), (None, 3)):
        assert plan(m.GetQuoteExRequest(report, buf_size, key_id, info)) == m.GetQuoteExResponse(code, None, echoed)


def need_quote(buf_size, info=None):
    return NeedQuote(Report.parse(REPORT), info, buf_size)


def test_a_small_buffer_comes_before_a_rejected_report():
    for buf_size, code in ((4599, 3), (4600, 42), (4601, 42)):
        need = need_quote(buf_size, QeReportInfo.parse(INFO))
        assert need.reject_report(Code.ATT_KEY_NOT_INITIALIZED, 4600) == m.GetQuoteExResponse(code, None, INFO)


def test_qe_report_info_goes_back_as_the_provider_made_it():
    asked = QeReportInfo.parse(INFO)
    made = dataclasses.replace(asked, qe_report=b"\x77" * 432)
    assert need_quote(5, asked).answer(m.AesmQuote(b"quote", made)).qe_report_info == made.encode()
    assert need_quote(5, asked).answer(m.AesmQuote(b"quote")).qe_report_info == INFO, "the provider made none"
    assert need_quote(4, asked).answer(m.AesmQuote(b"quote", asked)) == m.GetQuoteExResponse(3, None, INFO)
    assert need_quote(5, asked).refuse(Code.INVALID_REPORT) == m.GetQuoteExResponse(47, None, INFO)
    assert need_quote(5).refuse(Code.INVALID_REPORT) == m.GetQuoteExResponse(47, None, None)


@given(size=st.integers(0, 3000), buf_size=st.integers(1, MAX_QUOTE_BUFFER_SIZE))
def test_the_answer_fills_the_buffer_or_is_refused(size, buf_size):
    response = need_quote(buf_size).answer(m.AesmQuote(b"q" * size))
    if size > buf_size:
        assert response == m.GetQuoteExResponse(3)
    else:
        assert response == m.GetQuoteExResponse(0, b"q" * size + bytes(buf_size - size), None)


@pytest.mark.parametrize(
    "response",
    [
        m.InitQuoteExResponse(18, pub_key_id_size=0),
        m.GetQuoteSizeExResponse(18, 0),
        m.GetQuoteExResponse(18),
        m.SelectAttKeyIdResponse(18),
        m.GetSupportedAttKeyIdNumResponse(18, 0),
        m.GetSupportedAttKeyIdsResponse(18),
    ],
)
def test_refusals_have_the_zeros_of_intels_server(response):
    assert refuse(response.kind, Code.BUSY) == response
