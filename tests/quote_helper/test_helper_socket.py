"""A real helper process on a real socket: every recorded request, every way to send it, every way to misbehave."""

import os
import random
import socket
import stat

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import MAX_REQUEST_SIZE, encode_frame
from confcom.aesm.message_codec import decode_response
from confcom.aesm.messages import (
    GetQuoteExRequest,
    GetQuoteSizeExRequest,
    GetSupportedAttKeyIdNumRequest,
    InitQuoteExRequest,
    MessageKind,
)
from confcom.client import AesmClient
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.quote import Quote
from confcom.sgx.report import QE_REPORT_INFO_SIZE, QeReportInfo

KEY_ID = ECDSA_P256_KEY_ID.encode()


@pytest.mark.parametrize("name", ["num", "ids", "sel", "init1"])
def test_answers_without_a_quoting_enclave_are_intels_byte_for_byte(helper, exchange, vector, name):
    assert exchange(helper.socket, vector(f"intel229_{name}")) == vector(f"resp_intel229_{name}")


def test_select_with_a_list(helper, exchange, vector):
    assert exchange(helper.socket, vector("intel229_sellist")) == vector("resp_intel229_sel")


def test_recorded_init_and_size_are_answered_from_the_provider(helper, exchange, vector):
    init = decode_response(exchange(helper.socket, vector("intel229_init2"))[4:], MessageKind.INIT_QUOTE_EX)
    assert (init.error_code, len(init.target_info), init.pub_key_id_size, len(init.pub_key_id)) == (0, 512, 32, 32)
    size = decode_response(exchange(helper.socket, vector("intel229_size"))[4:], MessageKind.GET_QUOTE_SIZE_EX)
    assert size.error_code == 0
    assert size.quote_size > 1052


@pytest.mark.parametrize("name", ["quote", "quote0"])
def test_recorded_quotes_are_refused_for_their_buffer_before_their_report(helper, exchange, vector, name):
    answer = decode_response(exchange(helper.socket, vector(f"intel229_{name}"))[4:], MessageKind.GET_QUOTE_EX)
    assert answer.error_code == AesmErrorCode.PARAMETER_ERROR
    assert answer.quote is None
    assert len(answer.qe_report_info or b"") == (QE_REPORT_INFO_SIZE if name == "quote" else 0)


def test_a_whole_quote(helper, ask, enclave):
    client = AesmClient(helper.socket)
    target = client.init_quote()
    report = enclave.create_report(target.target_info, bytes(range(64)))
    quote = client.get_quote(report).quote
    assert Quote.parse(quote).body == report.body
    assert len(quote) == client.quote_size()
    assert Quote.parse(quote).signature.pub_key_id == target.pub_key_id
    answer = ask(helper.socket, GetQuoteExRequest(report.encode(), 8192, att_key_id=KEY_ID))
    assert len(answer.quote) == 8192
    assert not any(answer.quote[len(quote) :])


def test_a_qe_report_comes_back_to_whom_asks_for_it(helper, enclave):
    client = AesmClient(helper.socket)
    report = enclave.create_report(client.init_quote().target_info, bytes(64))
    info = QeReportInfo(b"n" * 16, enclave.target_info(), bytes(432))
    answered = client.get_quote(report, qe_report_info=info).qe_report_info
    assert (answered.nonce, answered.app_enclave_target_info) == (info.nonce, info.app_enclave_target_info)
    assert any(answered.qe_report)


def test_any_segmentation_gives_the_same_answer(helper, exchange, vector):
    request, answer = vector("intel229_init1"), vector("resp_intel229_init1")
    assert exchange(helper.socket, request[:4], request[4:]) == answer
    assert exchange(helper.socket, *(request[at : at + 1] for at in range(len(request)))) == answer
    for seed in range(20):
        cuts = sorted(random.Random(seed).sample(range(len(request)), 5))
        pieces = [request[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(request)], strict=True)]
        assert exchange(helper.socket, *pieces) == answer


def test_half_close_before_the_answer(helper, exchange, vector):
    assert exchange(helper.socket, vector("intel229_num"), half_close=True) == vector("resp_intel229_num")


def test_one_request_per_connection_and_trailing_bytes_ignored(helper, exchange, vector):
    request, answer = vector("intel229_num"), vector("resp_intel229_num")
    assert exchange(helper.socket, request + request) == answer
    assert exchange(helper.socket, request + b"junk" * 10_000) == answer


@pytest.mark.parametrize(
    "frame",
    [
        bytes(4),
        b"\xff" * 4,
        b"\xff" * 16,
        (MAX_REQUEST_SIZE + 1).to_bytes(4, "little"),
        encode_frame(b"\xff" * 16),
        encode_frame(b"\x9a\x06\x00"),
        encode_frame(b"\xa2\x01\x02\x08\x01"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["length 0", "length 4 GiB", "all ones", "too long", "garbage body", "field 99", "field 20", "HTTP"],
)
def test_what_is_no_request_is_closed_without_a_byte_and_counted(helper, exchange, wait_until, frame):
    line = 'confcom_quote_helper_connections_dropped_total{reason="malformed"}'
    # What other tests left open is counted when its end is seen.
    wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    before = helper.metric(line)
    assert exchange(helper.socket, frame) == b""
    assert helper.metric(line) == before + 1


def test_a_cut_request_is_closed(helper, exchange, vector):
    assert exchange(helper.socket, vector("intel229_num")[:6], half_close=True) == b""


def test_a_probe_that_only_connects_is_no_error(helper, wait_until, exchange, vector):
    # Whatever earlier tests left in the backlog is accepted before this, and then has to end.
    assert exchange(helper.socket, vector("intel229_num"))
    wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    line = 'confcom_quote_helper_connections_dropped_total{reason="malformed"}'
    before = helper.metric(line), helper.metric("confcom_quote_helper_connections_accepted_total")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(helper.socket))
    wait_until(lambda: helper.metric("confcom_quote_helper_connections_accepted_total") > before[1])
    wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    assert helper.metric(line) == before[0]


def test_malformed_input_is_logged_once_in_a_while(helper, exchange, wait_until):
    for _ in range(20):
        assert exchange(helper.socket, b"\xff" * 16) == b""
    wait_until(lambda: "malformed request" in helper.log.read_text())
    assert helper.log.read_text().count("malformed request") == 1


@pytest.mark.parametrize("head", [b"", b"\x20", b"\x20\x00\x00\x00", b"\x20\x00\x00\x00\x7a"])
def test_300_connections_that_stay_incomplete_block_nobody(helper, exchange, vector, head):
    """Intel's server stops at one header-only client, and for good at 255 idle connections."""
    waiting = []
    for _ in range(300):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(helper.socket))
        client.sendall(head)
        waiting.append(client)
    assert exchange(helper.socket, vector("intel229_num")) == vector("resp_intel229_num")
    assert helper.get("/livez")[0] == 200
    for client in waiting:
        client.close()


def test_a_client_that_dies_before_its_answer_harms_nobody(helper, exchange, vector):
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(helper.socket))
            client.sendall(vector("intel229_init2"))
    assert exchange(helper.socket, vector("intel229_num")) == vector("resp_intel229_num")


def test_mutated_requests_never_end_the_helper(helper, exchange, vector):
    draw = random.Random(20261124)
    names = ["num", "ids", "sel", "sellist", "init1", "init2", "size", "quote"]
    for _ in range(300):
        body = bytearray(vector(f"intel229_{draw.choice(names)}")[4:])
        for _ in range(draw.randint(1, 4)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        del body[draw.randint(1, len(body)) :]
        exchange(helper.socket, encode_frame(bytes(body)), half_close=True)
    assert helper.process.poll() is None
    assert exchange(helper.socket, vector("intel229_num")) == vector("resp_intel229_num")


def test_missing_fields_sizes_and_junk_buffers(helper, ask):
    assert ask(helper.socket, InitQuoteExRequest(b_pub_key_id=False, att_key_id=KEY_ID, buf_size=2**47)).error_code == 0
    assert ask(helper.socket, InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY_ID, buf_size=33)).error_code == 3
    assert ask(helper.socket, GetQuoteSizeExRequest(att_key_id=KEY_ID[:-1])).error_code == 3
    assert ask(helper.socket, GetQuoteExRequest(bytes(432), 2**32 - 1, att_key_id=KEY_ID)).error_code == 3


def test_requests_are_counted_by_kind_and_result(helper, ask):
    line = 'confcom_quote_helper_requests_total{request="GetSupportedAttKeyIDNum",result="success"}'
    before = helper.metric(line) or 0
    ask(helper.socket, GetSupportedAttKeyIdNumRequest())
    assert helper.metric(line) == before + 1


def test_permissions_let_every_user_connect(helper):
    assert stat.S_IMODE(helper.socket.stat().st_mode) == 0o666
    assert stat.S_IMODE(helper.socket.parent.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_gets_a_quote(helper, exchange, vector):
    helper.directory.chmod(0o755)
    os.setegid(1000)
    os.seteuid(1000)
    try:
        answer = exchange(helper.socket, vector("intel229_init2"))
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert decode_response(answer[4:], MessageKind.INIT_QUOTE_EX).error_code == 0
