"""The fuzzer finds bugs that are planted, and shows an input for each."""

import contextlib
import json
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from confcom.aesm import request_checks
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.quote_provider.base import QuoteResult
from fuzz.campaign import Plan, run_campaign
from fuzz.inputs import Ending, Input
from fuzz.live_target import Bystander, LiveTarget
from fuzz.model import MAX_REQUEST_SIZE
from fuzz.oracle import Finding
from fuzz.report import json_line, passed, table
from fuzz.session_target import SessionTarget
from fuzz.wire import HEADER_SIZE, Field, encode, frame, parse

ROOT = Path(__file__).parents[2]
PLAN = Plan(seed=1, first=0, count=4_000)


class AnswersInField20(ServerSession):
    __slots__ = ()

    def respond(self, response):
        (answer,) = parse(super().respond(response)[4:])
        return frame(encode((replace(answer, number=20),)))


class FailsForOneKeyIdLength(ServerSession):
    __slots__ = ()

    def receive(self, data):
        event = super().receive(data)
        if isinstance(event, RequestReceived) and len(getattr(event.request, "att_key_id", None) or b"") == 257:
            raise IndexError("planted")
        return event


class WaitsAfterMalformedInput(ServerSession):
    __slots__ = ()

    def receive(self, data):
        event = super().receive(data)
        return event if isinstance(event, RequestReceived) else None


class AnswersEverythingOnceMore(ServerSession):
    __slots__ = ("_last",)

    def receive(self, data):
        event = super().receive(data) or getattr(self, "_last", None)
        self._last = event
        return event


class LosesMemory(ServerSession):
    __slots__ = ()
    kept: list[bytearray] = []  # noqa: RUF012 # the planted leak

    def __init__(self):
        super().__init__()
        self.kept.append(bytearray(b"x" * 32_768))


class GivesTheQuoteBefore:
    """A provider that mixes up its clients."""

    def __init__(self, provider):
        self._provider = provider
        self._before = None

    def __getattr__(self, name):
        return getattr(self._provider, name)

    def quote(self, report, qe_report_info):
        result = self._provider.quote(report, qe_report_info)
        before, self._before = self._before or result, result
        return QuoteResult(before.quote, result.qe_report_info)


def campaign(**planted):
    with SessionTarget(**planted) as target:
        tally = run_campaign("planted", PLAN, target)
    assert not passed(tally)
    return tally


def bug(tally, rule):
    (found,) = [one for one in tally.bugs if one.finding.rule == rule]
    return found


@pytest.mark.parametrize(
    ("session", "rule", "size"),
    [
        (lambda: ServerSession(max_request_size=2**32 - 1), "not one event", 4),
        (AnswersInField20, "an answer is in another field", 6 + 2),
        (FailsForOneKeyIdLength, "an exception: IndexError", 257 + 14),
        (WaitsAfterMalformedInput, "not one event", 5),
        (AnswersEverythingOnceMore, "not one event", 9),
    ],
)
def test_a_session_with_a_bug_is_found_with_a_small_input(session, rule, size):
    tally = campaign(make_session=session)
    found = bug(tally, rule)
    assert found.alone
    assert len(found.sent.data) <= size
    assert str(found.sent) in table(tally)
    (as_json,) = json.loads(json_line([tally]))
    assert str(found.sent) in {one["input"] for one in as_json["bugs"]}
    with SessionTarget(make_session=session) as target:
        (again,) = target.run([Input.parse(str(found.sent))])
    assert isinstance(again, Finding)
    assert again.rule == rule


def test_a_limit_of_the_frame_that_is_too_low_by_one_is_found():
    found = bug(campaign(make_session=lambda: ServerSession(MAX_REQUEST_SIZE - 1)), "another event")
    assert len(found.sent.data) == HEADER_SIZE + MAX_REQUEST_SIZE


@pytest.mark.parametrize(
    ("bound", "wrong"),
    [
        ("MAX_QUOTE_BUFFER_SIZE", request_checks.MAX_QUOTE_BUFFER_SIZE + 1),
        ("MAX_LISTED_KEY_IDS", request_checks.MAX_LISTED_KEY_IDS + 1),
        ("MAX_LISTED_KEY_IDS", request_checks.MAX_LISTED_KEY_IDS - 1),
    ],
)
def test_a_bound_of_a_value_that_is_off_by_one_is_found(monkeypatch, bound, wrong):
    monkeypatch.setattr(request_checks, bound, wrong)
    assert bug(campaign(), "an answer has another code").alone


def test_quotes_that_go_to_another_client_are_found():
    assert bug(campaign(wrap_provider=GivesTheQuoteBefore), "an answer says something else").sent is not None


def find_a_leak():
    assert bug(campaign(make_session=LosesMemory), "memory grows").sent is None


def test_a_leak_is_found():
    """In a process of its own: what the tests before left in this one may be released meanwhile, and hide the leak."""
    load = "from importlib.util import module_from_spec as make, spec_from_file_location as find"
    program = f"{load}; spec = find('finds', {__file__!r}); spec.loader.exec_module(m := make(spec)); m.find_a_leak()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def serving(handle):
    """A service that does the same to everyone."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            handle(self.request)

    class Server(socketserver.ThreadingUnixStreamServer):
        request_queue_size = 128
        daemon_threads = True

    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    with Server(str(folder / "socket"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield folder / "socket"
        finally:
            server.shutdown()
            thread.join()
            shutil.rmtree(folder)


def answer_num(connection):
    with contextlib.suppress(OSError):
        connection.recv(100_000)
        connection.sendall(bytes.fromhex("07000000aa010408001001"))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(100_000)


def test_a_service_that_answers_another_request_is_found_through_its_socket(target):
    with serving(answer_num) as path:
        live = LiveTarget(path, target.pid, target.corpus, target.rules)
        ids, num, cut = (
            live.run([Input((frame(body),), Ending.WAIT)])[0] for body in (b"\xb2\x01\x00", b"\xaa\x01\x00", b"\xff")
        )
        bystander = Bystander(path)
        with bystander.beside():
            while not bystander.rounds:
                live.run([Input((), Ending.HALF_CLOSE)])
    assert ids == Finding("an answer is in another field", "21 instead of 22")
    assert str(num) == "answered GetSupportedAttKeyIDNum SUCCESS"
    assert cut.rule == "an answer where none is due"
    assert len(bystander.failures) == bystander.rounds


def test_a_service_that_answers_nobody_is_found_through_its_socket(target):
    ended = threading.Event()
    with serving(lambda _: ended.wait()) as path:
        live = LiveTarget(path, target.pid, target.corpus, target.rules, answer_seconds=0.05)
        (result,) = live.run([Input((frame(b"\xaa\x01\x00"),), Ending.WAIT)])
        ended.set()
    assert result.rule == "the connection does not end"


def test_no_service_is_a_finding(target, tmp_path):
    (result,) = LiveTarget(tmp_path / "none", target.pid, target.corpus, target.rules).run([Input((), Ending.WAIT)])
    assert result.rule == "cannot connect"


def test_the_shrinker_unplugs_what_does_not_matter():
    small = Field(22, (Field(1, 0),))
    large = Field(22, (Field(1, 256), Field(9, 77), Field(200, b"x" * 300)))
    sent = Input((frame(encode((Field(21, ()), large)))[:5], frame(encode((Field(21, ()), large)))[5:]), Ending.CLOSE)

    from fuzz.shrink import shrink

    def has_ids_with_size(candidate):
        try:
            return any(
                node.number == 22 and any(f.number == 1 for f in node.value) for node in parse(candidate.data[4:])
            )
        except (ValueError, AttributeError):
            return False

    assert shrink(sent, has_ids_with_size) == Input((frame(encode((small,))),), Ending.WAIT)
