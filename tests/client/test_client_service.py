import asyncio
import contextlib
import os
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.aesm.errors import AesmError, ConnectionClosedError, ProtocolError, StaleTargetError
from confcom.aesm.session import MAX_RESPONSE_SIZE, encode_frame
from confcom.client import blocking
from confcom.client.errors import ServiceTimeoutError, ServiceUnreachableError, connect_error
from confcom.errors import ExitCode, SettingsError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from testkit.expected_errors import raises, require_style
from testkit.passing_descriptors import LingeringSockets, pass_descriptors
from testkit.stub_aesmd import INIT, QUOTE, SIZE

REPORT_DATA = bytes(range(64))
NUM_ANSWER = bytes.fromhex("07000000aa010408001001")
IDS_ANSWER = bytes.fromhex("09010000b20185020800128002") + ECDSA_P256_KEY_ID.encode()


def make_report(target_info):
    return SimulatedEnclave.from_name("client test").create_report(target_info, REPORT_DATA)


def test_the_way_to_a_quote_step_by_step(ask, aesmd):
    target, identity = ask("init_quote"), aesmd.provider.identity()
    assert (target.target_info, target.pub_key_id) == (identity.target_info, identity.pub_key_id)
    size = ask("quote_size")
    quoted = ask("get_quote", make_report(target.target_info))
    assert quoted.qe_report_info is None
    assert len(quoted.quote) == size == aesmd.provider.quote_size()
    assert Quote.parse(quoted.quote).body.report_data == REPORT_DATA
    assert aesmd.asked == [INIT, SIZE, SIZE, QUOTE], "one connection per request"


@pytest.mark.usefixtures("refusal")
def test_a_service_can_pass_no_descriptors(ask, listen):
    taken = []

    def pass_one(connection):
        with LingeringSockets() as sockets:
            taken.append(pass_descriptors(connection, b"\1", [sockets.make()]))

    listen(pass_one)
    with pytest.raises(ConnectionClosedError):
        ask("quote_size")
    assert taken == [False]


def test_a_changed_quoting_enclave_is_asked_again(ask, aesmd):
    aesmd.codes, targets = {QUOTE: AesmErrorCode.ATT_KEY_NOT_INITIALIZED}, []

    def make(target_info):
        if targets:
            aesmd.codes = {}
        targets.append(target_info)
        return make_report(target_info)

    assert Quote.parse(ask("quote_fresh_report", make).quote).body.report_data == REPORT_DATA
    assert len(targets) == 2
    assert aesmd.asked == [INIT, SIZE, QUOTE] * 2


def test_a_quoting_enclave_that_keeps_changing_is_an_error(ask, aesmd):
    aesmd.codes = {QUOTE: AesmErrorCode.ATT_KEY_NOT_INITIALIZED}
    with raises("aesm-att-key-not-initialized", StaleTargetError):
        ask("quote_fresh_report", make_report)
    assert aesmd.asked == [INIT, SIZE, QUOTE] * 2
    with pytest.raises(StaleTargetError):
        ask("get_quote", make_report(SimulatedEnclave.from_name("old QE").target_info()))


def test_an_exception_of_the_report_maker_comes_through(ask, aesmd):
    with pytest.raises(KeyError):
        ask("quote_fresh_report", lambda target_info: {}[target_info])


@pytest.mark.parametrize("code", [AesmErrorCode.BUSY, AesmErrorCode.SERVICE_UNAVAILABLE, AesmErrorCode.INVALID_REPORT])
def test_refusals_carry_name_and_advice(ask, aesmd, code):
    aesmd.codes = {INIT: code}
    with raises(code_of(code), AesmError, "why", "remedy") as caught:
        ask("init_quote")
    assert (caught.value.code, caught.value.call) == (code, "InitQuoteEx")


def test_an_answer_in_any_pieces_is_read(ask, listen, sending):
    listen(sending(*(bytes([byte]) for byte in NUM_ANSWER)), sending(IDS_ANSWER[:4], IDS_ANSWER[4:90], IDS_ANSWER[90:]))
    assert ask("supported_key_ids") == (ECDSA_P256_KEY_ID,)


@pytest.mark.parametrize(("cut", "code"), [(0, "closed-unanswered"), (6, "closed-mid-answer")])
def test_a_service_that_closes_too_early(ask, aesmd, cut, code):
    aesmd.cut = cut
    with raises(code, ConnectionClosedError, "why", "remedy", naming="GetSupportedAttKeyIDNum") as caught:
        ask("supported_key_ids")
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


def test_a_service_that_resets_the_connection(ask, listen):
    # The server closes without reading the request, so Linux reports a reset, as after junk to Intel's server.
    listen(lambda connection: connection.recv(1))
    with pytest.raises(ConnectionClosedError) as caught:
        ask("init_quote")
    assert caught.value.error_code in {"connection-broken", "closed-unanswered"}
    require_style(caught.value, "why", "remedy")


@pytest.mark.parametrize(
    "data",
    [
        (MAX_RESPONSE_SIZE + 1).to_bytes(4, "little"),
        encode_frame(bytes.fromhex("a201020801")),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        NUM_ANSWER,
    ],
    ids=["length over the cap", "field 20", "HTTP", "other call"],
)
def test_a_service_of_another_kind(ask, aesmd, data):
    aesmd.garbage = data
    with pytest.raises(ProtocolError) as caught:
        ask("init_quote")
    assert caught.value.remedy


def test_a_silent_service_is_given_up(ask, aesmd):
    aesmd.hang.clear()
    with raises("answer-timeout", ServiceTimeoutError, naming="InitQuoteEx") as caught:
        ask("init_quote", timeout=0.05)
    assert "0.05 s" in caught.value.what


def test_a_trickle_does_not_prolong_the_wait(ask, listen):
    stop = threading.Event()

    def trickle(connection):
        connection.sendall((100_000).to_bytes(4, "little"))
        while not stop.wait(0.01):
            connection.sendall(b"\0")

    listen(trickle)
    try:
        with pytest.raises(ServiceTimeoutError):
            ask("init_quote", timeout=0.2)
    finally:
        stop.set()


def test_a_full_queue_is_waited_for(ask, socket_path, sending):
    with contextlib.ExitStack() as opened:
        server, waiting = opened.enter_context(socket.socket(socket.AF_UNIX)), []
        server.bind(str(socket_path))
        server.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(opened.enter_context(socket.socket(socket.AF_UNIX)))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(socket_path))
        with pytest.raises(ServiceTimeoutError):
            ask("init_quote", timeout=0.1)
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(ask, "supported_key_ids")
            for _ in waiting[:-1]:
                server.accept()[0].close()
            for sent in (NUM_ANSWER, IDS_ANSWER):
                with server.accept()[0] as connection:
                    sending(sent)(connection)
    assert answer.result() == (ECDSA_P256_KEY_ID,)


def test_no_socket_in_its_directory(ask, socket_path):
    with raises("no-socket", ServiceUnreachableError, "why", naming=str(socket_path)) as caught:
        ask("init_quote")
    assert f"--socket {socket_path}" in caught.value.remedy
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    path = socket_path.parent / "absent" / "aesm.socket"
    with raises("no-socket", ServiceUnreachableError, "why") as caught:
        ask("init_quote", path=path)
    assert str(path) in caught.value.remedy


def left_by(kind):
    def make(path):
        with socket.socket(socket.AF_UNIX, kind) as made:
            made.bind(str(path))

    return make


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (os.mkdir, "socket-unusable"),
        (Path.touch, "socket-unusable"),
        (lambda path: path.symlink_to(path), "socket-unusable"),
        (left_by(socket.SOCK_STREAM), "socket-stale"),
        (left_by(socket.SOCK_DGRAM), "socket-stale"),
    ],
    ids=["directory", "file", "link to itself", "stream socket", "datagram socket"],
)
def test_something_else_at_the_path(ask, socket_path, make, code):
    make(socket_path)
    with raises(code, ServiceUnreachableError, "remedy"):
        ask("init_quote")
    if socket_path.is_file():
        with raises("no-socket", ServiceUnreachableError):
            ask("init_quote", path=socket_path / "aesm.socket")


def test_a_socket_that_this_user_may_not_use(socket_path):
    error = connect_error(socket_path, PermissionError(13, "Permission denied"))
    assert (type(error), error.error_code) == (ServiceUnreachableError, "socket-forbidden")
    require_style(error, "why", "remedy")


def test_a_path_that_no_socket_can_have(ask, socket_path):
    longest = socket_path.parent / ("x" * (107 - len(bytes(socket_path.parent)) - 1))
    with pytest.raises(ServiceUnreachableError):
        ask("init_quote", path=longest)
    with raises("socket-path-unusable", SettingsError):
        ask("init_quote", path=longest.with_name(longest.name + "x"))
    for path in ("a\0b", "\0sgx_aesm_socket_base"):
        with raises("socket-path-unusable", SettingsError):
            ask("init_quote", path=path)


def test_many_threads_share_one_client(aesmd, socket_path):
    client = blocking.AesmClient(socket_path)
    client.init_quote()
    with ThreadPoolExecutor(8) as threads:
        sizes = set(threads.map(lambda _: client.quote_size(), range(8)))
    assert len(sizes) == 1


def opened():
    """Count the targets of this process's descriptors; every socket has a different target."""
    found = Counter()
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            found[str(path.readlink())] += 1
    return found


def test_no_client_leaves_a_descriptor_open(ask, listen, sending):
    # uvloop makes a pipe for signals with its first loop in a process, and keeps this pipe.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
    before = opened()
    listener = listen(sending(NUM_ANSWER), sending(IDS_ANSWER), sending())
    ask("supported_key_ids")
    with pytest.raises(ConnectionClosedError):
        ask("quote_size")
    listener.close()
    assert opened() - before == Counter()  # another test's file may close meanwhile
