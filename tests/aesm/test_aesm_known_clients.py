"""The byte sequences of real clients, against the whole service; and what each of them checks in the answers."""

import dataclasses

import pytest

from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response
from confcom.aesm.messages import MessageKind
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.quote import Quote
from confcom.sgx.report import QeReportInfo, Report, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave

KEY = ECDSA_P256_KEY_ID.encode()
ENCLAVE = SimulatedEnclave.from_name("test")
REPORT_DATA = bytes(range(64))


def call(serve, kind: MessageKind, body: str):
    """Send a body as a client wrote it; read the answer as strictly as any client does."""
    data = serve(encode_frame(bytes.fromhex(body)))
    assert int.from_bytes(data[:4], "little") == len(data) - 4
    response = decode_response(data[4:], kind)
    assert response.error_code == 0
    return response


def key_request(tag: str, after: str = "") -> str:
    """A request that begins with the key id as its field 1."""
    content = "0a8002" + KEY.hex() + after
    size = len(bytes.fromhex(content))
    return tag + bytes([size & 0x7F | 0x80, size >> 7]).hex() + content


def init(serve, after: str):
    return call(serve, MessageKind.INIT_QUOTE_EX, key_request("7a", after))


def quote_request(report: Report, after: str) -> str:
    content = "0ab003" + report.encode().hex() + "128002" + KEY.hex() + after
    size = len(bytes.fromhex(content))
    return "8a01" + bytes([size & 0x7F | 0x80, size >> 7]).hex() + content


def varint(value: int) -> str:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value]).hex()


def report_for(target_info: bytes) -> Report:
    return ENCLAVE.create_report(TargetInfo.parse(target_info), REPORT_DATA)


def test_the_requests_built_here_are_those_that_were_recorded(vector):
    assert encode_frame(bytes.fromhex(key_request("7a", "1801 2020 489875"))) == vector("intel229_init2")
    report = Report.parse(vector("intel229_quote0")[4 + 7 :][:432])
    assert encode_frame(bytes.fromhex(quote_request(report, "20f823 489875"))) == vector("intel229_quote0")


@pytest.mark.parametrize("junk", [None, 0, 1, 32, 140723891626680, 2**64 - 1])
def test_intels_ql_wrapper_whatever_is_on_its_stack(serve, junk):
    first = init(serve, "1800" + ("" if junk is None else "20" + varint(junk)) + "489875")
    assert first.pub_key_id_size == 32
    assert first.target_info == bytes(512)
    second = init(serve, "1801 2020 489875")
    assert len(second.pub_key_id) == second.pub_key_id_size == 32
    size = call(serve, MessageKind.GET_QUOTE_SIZE_EX, key_request("8201", "489875")).quote_size
    quoted = call(
        serve,
        MessageKind.GET_QUOTE_EX,
        quote_request(report_for(second.target_info), "20" + varint(size) + "489875"),
    )
    parsed = Quote.parse(quoted.quote)
    assert (parsed.size, parsed.trailing, quoted.qe_report_info) == (size, b"", None)
    assert parsed.body.report_data == REPORT_DATA
    assert parsed.signature.qe_report_body.report_data[:32] == second.pub_key_id


def test_open_enclave_num_and_ids_first_and_size_twice(serve):
    assert call(serve, MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM, "aa0103489875").att_key_id_num == 1
    listed = call(serve, MessageKind.GET_SUPPORTED_ATT_KEY_IDS, "b20106088002489875").att_key_ids
    assert listed == KEY
    assert int.from_bytes(listed[154:158], "little") in {0, 1, 2}, "Open Enclave skips other algorithms"
    assert init(serve, "1800489875").pub_key_id_size == 32
    target = init(serve, "18012020489875").target_info
    sizes = {call(serve, MessageKind.GET_QUOTE_SIZE_EX, key_request("8201", "489875")).quote_size for _ in range(2)}
    (size,) = sizes
    quoted = call(serve, MessageKind.GET_QUOTE_EX, quote_request(report_for(target), "20" + varint(size) + "489875"))
    assert len(quoted.quote) == Quote.parse(quoted.quote).size == size


def test_gramine_with_its_fixed_buffer_and_no_size_call(serve):
    target = init(serve, "18012020").target_info
    assert len(target) == 512
    quoted = call(serve, MessageKind.GET_QUOTE_EX, quote_request(report_for(target), "208040"))
    assert len(quoted.quote) == 8192
    signature_size = int.from_bytes(quoted.quote[432:436], "little")
    assert 436 + signature_size <= 8192
    assert not any(quoted.quote[436 + signature_size :])


def test_fortanix_which_slices_the_qe_report_without_looking(serve):
    ids = "088002" + "48" + varint(30_000_000)
    listed = call(serve, MessageKind.GET_SUPPORTED_ATT_KEY_IDS, "b201" + bytes([len(ids) // 2]).hex() + ids)
    assert len(listed.att_key_ids) == 256
    first = init(serve, "180048" + varint(30_000_000))
    target = init(serve, "1801" + "20" + varint(first.pub_key_id_size)).target_info
    size = call(serve, MessageKind.GET_QUOTE_SIZE_EX, key_request("8201")).quote_size
    nonce = bytes(range(16))
    info = nonce + ENCLAVE.target_info().encode() + bytes(432)
    quoted = call(
        serve,
        MessageKind.GET_QUOTE_EX,
        quote_request(report_for(target), "1ac007" + info.hex() + "20" + varint(size)),
    )
    assert len(quoted.qe_report_info) == 960
    assert quoted.qe_report_info[:528] == info[:528]
    ENCLAVE.verify_report(Report.parse(quoted.qe_report_info[528:]))


def test_intels_remote_attestation_library_with_select_first(serve):
    selected = call(serve, MessageKind.SELECT_ATT_KEY_ID, "9a018e020a88020000000001000000" + KEY.hex() + "109875")
    assert selected.selected_att_key_id == KEY
    init(serve, "1800489875")
    target = init(serve, "18012020489875").target_info
    size = call(serve, MessageKind.GET_QUOTE_SIZE_EX, key_request("8201", "489875")).quote_size
    info = QeReportInfo(b"n" * 16, ENCLAVE.target_info(), bytes(432))
    quoted = call(
        serve,
        MessageKind.GET_QUOTE_EX,
        quote_request(report_for(target), "1ac007" + info.encode().hex() + "20" + varint(size) + "489875"),
    )
    qe_report = Report.parse(QeReportInfo.parse(quoted.qe_report_info).qe_report)
    ENCLAVE.verify_report(qe_report)
    assert qe_report.body.mr_enclave == TargetInfo.parse(target).mr_enclave


def test_a_report_for_another_target_is_refused_as_such(serve, quoting_enclave):
    other = dataclasses.replace(quoting_enclave.target_info, mr_enclave=bytes(32))
    body = quote_request(ENCLAVE.create_report(other, REPORT_DATA), "208040")
    assert serve(encode_frame(bytes.fromhex(body))) == bytes.fromhex("05000000 8a0102 082f")


@pytest.mark.parametrize("number", [1, 2, 3, 13])
def test_old_epid_clients_are_told_30_in_their_own_field(serve, number):
    tag = bytes([number << 3 | 2])
    assert serve(encode_frame(tag + b"\x00")) == encode_frame(tag + bytes.fromhex("02 081e"))


@pytest.mark.parametrize("body", ["a20100", "9a0600", "3a00", "ffffffffffff"])
def test_the_unknown_is_closed_without_a_byte(serve, body):
    assert serve(encode_frame(bytes.fromhex(body))) == b""
