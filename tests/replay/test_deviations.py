"""Where the quote helper does something else than Intel's service on purpose: each test is one row of the page.

`test_cut_message` is the row `cut-message` of docs/reference/aesm-deviations.md, and so on for all of them; the reasons
are there.
"""

import contextlib
import re
import signal
import socket
import stat
from pathlib import Path

import pytest

from confcom.sgx.report import TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.helper_process import START_SECONDS, running_helper
from testkit.replay import wire
from testkit.replay.clients import GRAMINE, KEY, OPEN_ENCLAVE, ReplayedClient, encode
from testkit.replay.rows import LEGACY
from testkit.replay.wire import nested_fields as fields

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "aesm-deviations.md"
DROPPED = 'confcom_quote_helper_connections_dropped_total{{reason="{}"}}'.format
OWN = SimulatedEnclave.from_name("deviations")

NUM = encode({21: {"9": 15_000}})
FRAME = wire.frame(NUM)
NUM_ANSWER = bytes.fromhex("07000000 aa0104 0800 1001")
INIT, SIZE = encode({15: {"1": "$key", "3": 1, "4": 32}}), encode({16: {"1": "$key"}})


ALONE = {"limits": {"accept_drain_seconds": 0}}
"""A stop waits for no other helper."""


@contextlib.contextmanager
def connected(helper, count=1, data=b""):
    """Connections that have sent so much and wait."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
        for client in made:
            client.settimeout(START_SECONDS)
            client.connect(str(helper.socket))
            client.sendall(data)
        yield made


def is_served(helper):
    return ReplayedClient(OPEN_ENCLAVE, helper.socket).run().failure == ""


def test_the_page_and_these_tests_have_the_same_rows():
    rows = set(re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text(), re.MULTILINE))
    here = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    assert rows == here - {"the-page-and-these-tests-have-the-same-rows"}


def quote(report, buf_size=8192, **info):
    return encode({17: {"1": report.hex(), "2": "$key", **info, "4": buf_size}})


@pytest.mark.parametrize("row", LEGACY, ids=lambda row: row["row"])
def test_legacy_refused(helper, row):
    assert helper.ask(encode(row["send"])) == encode(row["answer"])


@pytest.mark.parametrize(
    ("call", "content"),
    [(2, b""), (14, wire.data(1, b"x") + wire.number(2, 1)), (1, b"\xff" * 9)],
    ids=["GetQuote without anything", "sgxRegister with data_type 1", "InitQuote whose content is no protobuf"],
)
def test_legacy_unread(helper, call, content):
    assert fields(helper.ask(wire.data(call, content))) == {call: {1: 30}}


def test_cut_message(helper):
    body = wire.data(21, wire.number(9, 15_000)) + b"\x82\x01\x05ab"
    assert helper.ask(body) == b""


def test_request_cap(helper):
    before = helper.metric(DROPPED("malformed"))
    for length in (8_193, 8 * 2**20, 2**32 - 1):
        assert helper.send(length.to_bytes(4, "little") + b"x") == b"", length
    assert helper.metric(DROPPED("malformed")) == before + 3
    largest = NUM + wire.data(99, bytes(8_192 - len(NUM) - 4))
    assert len(largest) == 8_192
    assert helper.send(wire.frame(largest)) == NUM_ANSWER


def test_quote_buffer_cap(helper):
    target = TargetInfo.parse(fields(helper.ask(INIT))[15][2])
    report = OWN.create_report(target, bytes(64)).encode()
    assert len(fields(helper.ask(quote(report, 16_384)))[17][2]) == 16_384
    for wanted in (16_385, 64 * 2**20, 2**32 - 1):
        assert fields(helper.ask(quote(report, wanted))) == {17: {1: 3}}


def test_header_only_client(helper):
    with connected(helper, data=FRAME[:4]) as (client,):
        assert is_served(helper)
        client.sendall(FRAME[4:])
        assert client.recv(100) == NUM_ANSWER


def test_idle_connections(helper):
    with connected(helper, count=200), connected(helper, 100, FRAME[:1]), connected(helper, 100, FRAME[:-1]):
        assert is_served(helper)
    assert is_served(helper)


def test_connection_cap():
    limits = {"max_connections": 8}
    with running_helper(alterations={"limits": limits}) as helper, connected(helper, count=40) as clients:
        assert is_served(helper)
        assert clients[0].recv(1) == b"", "the one that has waited longest for its request is closed"
        assert helper.metric(DROPPED("shed")) >= 32


def test_unread_answers():
    unread = "confcom_quote_helper_unread_answers"
    with (
        running_helper(alterations={"limits": {"peer_wait_seconds": 60.0}}) as helper,
        connected(helper, count=300, data=FRAME) as clients,
    ):
        helper.wait_until(lambda: helper.metric("confcom_quote_helper_connections_accepted_total") == len(clients))
        # By the next rendering all answers count for their peer. How many it was given depends on how quickly it asked.
        assert helper.metric(unread) > 0
        with connected(helper, data=FRAME) as (late,):
            late.setblocking(False)
            with pytest.raises(BlockingIOError):
                late.recv(1)
            late.settimeout(START_SECONDS)
            for client in (*clients, late):
                assert client.recv(100) == NUM_ANSWER
                assert client.recv(1) == b""
            helper.wait_until(lambda: helper.metric(unread) == 0)


def test_deadlines():
    limits = {"whole_request_seconds": 0.3}
    with (
        running_helper(alterations={"limits": limits}) as helper,
        connected(helper) as (silent,),
        connected(helper, data=FRAME[:4]) as (slow,),
    ):
        assert silent.recv(1) == slow.recv(1) == b""
        metrics = helper.metrics()
        assert (metrics[DROPPED("timeout")], metrics[DROPPED("malformed")]) == (2, 0)


def test_never_behind():
    """64 requests wait for a provider that does not come; what needs none is answered at once."""
    with (
        running_helper(alterations={"provider": False}, ready=False) as helper,
        connected(helper, count=64, data=wire.frame(INIT)) as waiting,
    ):
        assert fields(helper.ask(NUM)) == {21: {1: 0, 2: 1}}
        assert fields(helper.ask(encode({22: {"1": 256}}))) == {22: {1: 0, 2: KEY}}
        assert fields(helper.ask(encode({19: {"1": ["0000000001000000", "$key"]}}))) == {19: {1: 0, 2: KEY}}
        assert fields(helper.ask(encode({15: {"1": "$key", "3": 0}})))[15][1] == 0
        for client in waiting:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)


def test_not_ready():
    alterations = {"provider": False, "limits": {"provider_wait_seconds": 0.1}}
    with running_helper(alterations=alterations, ready=False) as helper:
        assert fields(helper.ask(INIT)) == {15: {1: 30, 3: 32}}
        assert fields(helper.ask(SIZE)) == {16: {1: 30, 2: 0}}
        assert fields(helper.ask(quote(bytes(432), **{"3": "zeros:960"}))) == {17: {1: 30, 3: bytes(960)}}


def test_busy():
    alterations = {"provider": False, "limits": {"max_waiting": 6, "peer_wait_seconds": 0.2}}
    with (
        running_helper(alterations=alterations, ready=False) as helper,
        connected(helper, count=3, data=wire.frame(SIZE)),
    ):
        assert fields(helper.ask(SIZE)) == {16: {1: 18, 2: 0}}


@pytest.mark.parametrize(("window", "code"), [("3600", 42), ("0", 47)])
def test_stale_report(window, code):
    with running_helper("--stale-report-window-seconds", window) as helper:
        report = OWN.create_report(OWN.target_info(), bytes(64)).encode()
        assert fields(helper.ask(quote(report))) == {17: {1: code}}
        assert is_served(helper)


def test_malformed_log():
    with running_helper("--handover-seconds=0", alterations=ALONE) as helper:
        for _ in range(20):
            assert helper.send(wire.frame(b"\xff" * 8)) == b""
        assert helper.metric(DROPPED("malformed")) == 20
        assert helper.stop() == 0
        assert len(helper.events("malformed-request")) == 1


def test_silent_probe(helper):
    before = helper.metric(DROPPED("malformed"))
    assert helper.send(half_close=True) == b""
    assert helper.metric(DROPPED("malformed")) == before


def test_one_write(helper):
    """Header and body are there together, however quickly one reads."""
    for _ in range(50):
        with connected(helper, data=FRAME) as (client,):
            assert client.recv(100) == NUM_ANSWER


def test_abstract_name(helper):
    open_files = {link.resolve().name for link in Path(f"/proc/{helper.process.pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    names = [row[7] for row in rows if f"socket:[{row[6]}]" in open_files and len(row) > 7]
    assert names, "the helper's listening socket is not listed"
    assert [name for name in names if name.startswith("@")] == []


def test_socket_mode(helper):
    assert stat.S_IMODE(helper.socket.stat().st_mode) == 0o666


def test_update_without_gap():
    """A second instance takes over the path when it can quote; the first, when stopped, removes nothing."""
    with running_helper() as first:
        gramine = ReplayedClient(GRAMINE, first.socket)
        assert gramine.run().failure == ""
        inode = first.socket.stat().st_ino
        with running_helper(directory=first.socket.parent) as second:
            second.wait_until(lambda: second.socket.stat().st_ino != inode)
            assert first.stop() == 0
            assert gramine.quote().failure == ""


def test_foreign_socket(tmp_path):
    """A live socket of another program stays, and the helper waits for the path and says so."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "aesm.socket"))
        other.listen()
        with running_helper(directory=tmp_path, ready=False) as helper:
            helper.wait_until(lambda: helper.unready_for("foreign-socket"))
            with connected(helper):
                other.accept()[0].close()


def test_sighup():
    with running_helper("--handover-seconds=0", alterations=ALONE) as helper:
        assert helper.stop(signal.SIGHUP) == 0
        assert not helper.socket.exists()
