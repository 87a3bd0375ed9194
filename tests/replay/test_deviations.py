"""Tests each row of the page on the quote helper's intended deviations from Intel's service.

`test_deadlines` is for the row `deadlines` in docs/reference/aesm-deviations.md. ELSEWHERE names other tests.
"""

import contextlib
import re
import socket
import stat
from pathlib import Path

import pytest

from confcom.simulation.enclave import SimulatedEnclave
from testkit.helper_process import START_SECONDS, running_helper
from testkit.replay import wire
from testkit.replay.clients import KEY, OPEN_ENCLAVE, ReplayedClient, encode
from testkit.replay.rows import LEGACY
from testkit.replay.wire import nested_fields as fields

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "aesm-deviations.md"
DROPPED = 'confcom_quote_helper_connections_dropped_total{{reason="{}"}}'.format
OWN = SimulatedEnclave.from_name("deviations")

NUM = encode({21: {"9": 15_000}})
FRAME = wire.frame(NUM)
INIT, SIZE = encode({15: {"1": "$key", "3": 1, "4": 32}}), encode({16: {"1": "$key"}})

MEMORY, UPDATE = "quote_helper/transport/test_client_memory.py::", "quote_helper/takeover/test_handover.py::"
ELSEWHERE = {
    "busy": f"{MEMORY}test_too_many_waiting_requests_of_one_peer_are_busy",
    "connection-cap": "quote_helper/transport/test_server.py::test_the_peer_that_holds_most_loses_its_oldest",
    "cut-message": "aesm/test_aesm_messages.py::test_every_proper_prefix_of_a_request_is_refused",
    "foreign-socket": "quote_helper/takeover/test_socket_keeper.py::test_another_programs_live_socket_stays",
    "header-only-client": "replay/test_deviations.py::test_idle_connections",
    "malformed-log": "quote_helper/test_quote_log.py::test_malformed_input_is_one_line_per_peer_and_minute",
    "one-write": "aesm/test_aesm_session.py::test_the_answer_is_one_bytes_object_and_ends_the_session",
    "quote-buffer-cap": "aesm/test_aesm_request_checks.py::test_a_quote_is_refused_for_its_sizes_after_its_key",
    "request-cap": "aesm/test_aesm_session.py::test_what_is_no_request_is_an_error_and_ends_the_session",
    "sighup": "daemon/test_supervision.py::test_a_signal_is_an_orderly_stop",
    "unread-answers": f"{MEMORY}test_unread_answers_are_bounded_and_others_get_theirs",
    "update-without-gap": f"{UPDATE}test_three_overlapping_updates_under_load_lose_nothing",
}


@contextlib.contextmanager
def connected(helper, count=1, data=b""):
    """Open connections to the helper, send this data on each, and keep the connections open."""
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
    assert rows == here - {"the-page-and-these-tests-have-the-same-rows"} | ELSEWHERE.keys()
    for file, _, name in (held.partition("::") for held in ELSEWHERE.values()):
        assert f"def {name}(" in (Path(__file__).parents[1] / file).read_text()


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


def test_idle_connections(helper):
    with connected(helper, count=200), connected(helper, 100, FRAME[:4]), connected(helper, 100, FRAME[:-1]):
        assert is_served(helper)
    assert is_served(helper)


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
    """While 64 requests wait for a provider that never comes, requests that need no provider are answered."""
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


@pytest.mark.parametrize(("window", "code"), [("3600", 42), ("0", 47)])
def test_stale_report(window, code):
    with running_helper("--stale-report-window-seconds", window) as helper:
        report = OWN.create_report(OWN.target_info(), bytes(64)).encode()
        assert fields(helper.ask(quote(report))) == {17: {1: code}}
        assert is_served(helper)


def test_silent_probe(helper):
    before = helper.metric(DROPPED("malformed"))
    assert helper.send(half_close=True) == b""
    assert helper.metric(DROPPED("malformed")) == before


def test_abstract_name(helper):
    open_files = {link.resolve().name for link in Path(f"/proc/{helper.process.pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    names = [row[7] for row in rows if f"socket:[{row[6]}]" in open_files and len(row) > 7]
    assert names, "the helper's listening socket is not listed"
    assert [name for name in names if name.startswith("@")] == []


def test_socket_mode(helper):
    assert stat.S_IMODE(helper.socket.stat().st_mode) == 0o666
