"""What Intel's server does, row by row, done by a real helper process."""

import hashlib

import pytest

from confcom.sgx.key_id import INTEL_QE_MRSIGNER
from confcom.sgx.report import Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire
from testkit.replay.rows import ROWS, Made, OfSize, ids, init, num, quote, size
from testkit.replay.steps import KEY, QE_REPORT_DATA
from testkit.replay.wire import nested_fields as fields

ENCLAVE = SimulatedEnclave.from_name("rows")
REPORT_DATA = bytes(range(64))
CERTIFICATION_SIZE = slice(1048, 1052)


@pytest.fixture(scope="module")
def made(helper):
    target = fields(helper.ask(init()))[15][2]
    report = ENCLAVE.create_report(TargetInfo.parse(target), REPORT_DATA)
    return Made(report.encode(), fields(helper.ask(size()))[16][2])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.text)
def test_row(helper, made, row):
    expected = row.answer(made) if callable(row.answer) else row.answer
    assert fields(helper.ask(row.body(made))) == expected


@pytest.mark.parametrize(
    ("pieces", "half_close"),
    [
        ((bytes(4),), False),
        ((b"\xff" * 16,), False),
        ((b"\x06\x00",), True),
        ((wire.frame(num())[:-2],), True),
        ((wire.frame(b"\x00\x01\x02"),), False),
        ((b"GET / HTTP/1.1\r\n\r\n",), False),
    ],
    ids=["length 0", "16 x 0xFF", "2 bytes, then the end", "a short body, then the end", "no protobuf", "HTTP"],
)
def test_malformed_input_is_closed_without_a_byte(helper, pieces, half_close):
    before = helper.metric('confcom_quote_helper_connections_dropped_total{reason="malformed"}')
    assert helper.send(*pieces, half_close=half_close) == b""
    assert helper.metric('confcom_quote_helper_connections_dropped_total{reason="malformed"}') == before + 1


ASKED = wire.frame(num())
ANSWERED = bytes.fromhex("07000000 aa0104 0800 1001")


@pytest.mark.parametrize(
    ("pieces", "half_close"),
    [
        ((ASKED[:4], ASKED[4:]), False),
        (tuple(ASKED[at : at + 1] for at in range(len(ASKED))), False),
        ((ASKED[:2], ASKED[2:7], ASKED[7:]), False),
        ((ASKED,), True),
        ((ASKED + b"junk" * 10_000,), False),
        ((ASKED + wire.frame(ids(256)),), False),
        ((ASKED + wire.frame(ids(256)),), True),
    ],
    ids=[
        "header and body apart",
        "byte by byte",
        "in any segments",
        "half-closed",
        "with trailing junk",
        "with a second request, which gets no answer",
        "with a second request, half-closed",
    ],
)
def test_one_request_is_answered_and_the_connection_closed(helper, pieces, half_close):
    assert helper.send(*pieces, half_close=half_close) == ANSWERED


def test_the_key_id_is_intels_production_key_field_by_field(helper):
    key = fields(helper.ask(ids(256)))[22][2]
    assert key[:6] == bytes.fromhex("0000 0000 2000")
    assert key[6:54] == INTEL_QE_MRSIGNER + bytes(16)
    assert key[54:58] == bytes.fromhex("01000000")
    assert key[58:154] == bytes(96)
    assert key[154:158] == bytes.fromhex("02000000")
    assert key[158:] == bytes(98)


def test_target_info_is_a_production_quoting_enclaves_and_zeros_to_its_end(helper):
    target = fields(helper.ask(init()))[15][2]
    assert any(target[:32])
    assert target[32:40] == (0x15).to_bytes(8, "little"), "INITTED, MODE64BIT, PROVISION_KEY; no DEBUG"
    assert target[48:] == bytes(512 - 48)


def test_the_public_key_id_is_the_hash_that_every_quote_carries(helper, made):
    pub_key_id = fields(helper.ask(init()))[15][4]
    quoted = fields(helper.ask(quote(made.report, buf_size=made.size)))[17][2]
    assert quoted[QE_REPORT_DATA] == pub_key_id
    assert hashlib.sha256(quoted[500:564] + quoted[1014:1046]).digest() == pub_key_id


def test_the_size_is_exact_with_the_chain_in_the_quote(helper, made):
    quoted = fields(helper.ask(quote(made.report, buf_size=made.size)))[17][2]
    assert made.size == len(quoted) == 1052 + int.from_bytes(quoted[CERTIFICATION_SIZE], "little")


def test_padding_is_zeros_and_the_quote_the_same_in_any_buffer(helper, made):
    quoted = fields(helper.ask(quote(made.report, buf_size=made.size + 100)))[17][2]
    assert quoted[made.size :] == bytes(100)
    assert quoted[48:432] == made.report[:384]


def test_the_qe_report_is_over_the_quote_without_its_padding_and_nonce_and_target_return(helper, made):
    nonce, target = b"n" * 16, ENCLAVE.target_info().encode()
    answer = fields(helper.ask(quote(made.report, info=nonce + target + bytes(432), buf_size=8192)))[17]
    assert answer[3][:528] == nonce + target
    qe_report = Report.parse(answer[3][528:])
    ENCLAVE.verify_report(qe_report)
    vouched = hashlib.sha256(nonce + answer[2][: made.size]).digest() + bytes(32)
    assert qe_report.body.report_data == vouched


def test_every_answer_is_in_its_requests_field_and_says_its_code(helper, made):
    for body in (num(), ids(256), ids(1), init(), size(), quote(made.report), quote(bytes(432))):
        (asked,) = wire.fields(body)
        (answered,) = fields(helper.ask(body)).items()
        assert answered[0] == asked
        assert isinstance(answered[1][1], int)


def test_what_is_compared_by_size_is_not_compared_at_all_otherwise():
    assert OfSize(3) == b"abc"
    assert OfSize(3) != b"ab"
    assert OfSize(3) != 3
    assert len({row.text for row in ROWS}) == len(ROWS)
    assert len(KEY) == 256
