"""The fuzzer finds nothing in the product, and finds planted bugs."""

import pytest

from confcom.aesm import request_checks, session
from confcom.aesm.session import RequestReceived, ServerSession
from fuzz.inputs import GET_QUOTE, IDS, INIT, LEGACY_KINDS, NUM, QUOTE_SIZE, SELECT, Ending, Input
from fuzz.oracle import Request, read
from fuzz.targets import SessionTarget, fuzz_helper, fuzz_session

FEW = range(4_000)


def test_the_session_has_no_known_bug():
    tally = fuzz_session(7, FEW)
    assert not tally.wrong
    assert tally.outcomes.total() == len(FEW)


@pytest.mark.slow
def test_a_live_helper_has_no_known_bug():
    assert not fuzz_helper(7, range(1_000)).wrong


def test_every_kind_of_request_and_code_is_reached():
    target = SessionTarget(3)
    requests = [read(target.inputs.make(index).data) for index in FEW]
    reached = {(one.kind, one.code(target.rules)) for one in requests if isinstance(one, Request)}
    assert {(kind, 30) for kind in LEGACY_KINDS} <= reached
    assert {(NUM, 0), (IDS, 0), (IDS, 1), (IDS, 3), (SELECT, 0), (SELECT, 3), (SELECT, 38)} <= reached
    assert {(kind, code) for kind in (INIT, QUOTE_SIZE, GET_QUOTE) for code in (0, 3, 38)} <= reached
    assert {(INIT, 1), (GET_QUOTE, 1), (GET_QUOTE, 47)} <= reached


NUM_ANSWERED = "answered GetSupportedAttKeyIDNum SUCCESS"


WAIT, HALF_CLOSE, CLOSE = Ending.WAIT, Ending.HALF_CLOSE, Ending.CLOSE
INPUTS = {
    "field 0 in a legacy request": ("080000007206020461626364", WAIT, "answered SgxRegister SERVICE_UNAVAILABLE"),
    "field 0 in num": ("09000000aa0106020461626364", WAIT, "closed after no request"),
    "no buf size": ("070000008a01041a026162", WAIT, "answered GetQuoteEx UNEXPECTED_ERROR"),
    "header byte by byte": ("06+00+00+00", HALF_CLOSE, "closed after a cut frame"),
    "header then gone": ("06000000", CLOSE, "closed after a cut frame"),
    "length 0": ("00000000", WAIT, "closed after a bad length"),
    "length of 4 gib": ("ffffffff", WAIT, "closed after a bad length"),
    "length too large by one": ("01000100", WAIT, "closed after a bad length"),
    "two requests in a frame": ("06000000aa0100aa0100", WAIT, NUM_ANSWERED),
    "two frames": ("06000000aa010348987506000000aa0103489875", WAIT, NUM_ANSWERED),
    "buf size above 32 bits": (
        "0e000000b2010b088082808090808080800000",
        WAIT,
        "answered GetSupportedAttKeyIDs SUCCESS",
    ),
    "tag of 5 bytes": ("0a000000aa81808000032848987500", HALF_CLOSE, "closed after no request"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_interest(name):
    pieces, ending, outcome = INPUTS[name]
    sent = Input(tuple(map(bytes.fromhex, pieces.split("+"))), ending)
    assert SessionTarget(1).run(sent) == (outcome, "")


class FailsForOneKeyIdLength(ServerSession):
    def receive(self, data):
        event = super().receive(data)
        if isinstance(event, RequestReceived) and len(getattr(event.request, "att_key_id", None) or b"") == 257:
            raise IndexError("planted")
        return event


class WaitsAfterMalformedInput(ServerSession):
    def receive(self, data):
        event = super().receive(data)
        return event if isinstance(event, RequestReceived) else None


class AnswersInField20(ServerSession):
    def respond(self, response):
        return super().respond(response).replace(b"\xaa\x01", b"\xa2\x01", 1)


SESSION, CHECKS = "fuzz.targets.ServerSession", "confcom.aesm.request_checks"
WRONG_CODE = "an answer has another code"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        (SESSION, FailsForOneKeyIdLength, "IndexError"),
        (SESSION, WaitsAfterMalformedInput, "another event"),
        (SESSION, AnswersInField20, "an answer is in another field"),
        (SESSION, lambda: session.ServerSession(2**32 - 1), "another event"),
        (SESSION, lambda: session.ServerSession(64 * 1024 - 1), "another event"),
        (f"{CHECKS}.MAX_QUOTE_BUFFER_SIZE", request_checks.MAX_QUOTE_BUFFER_SIZE + 1, WRONG_CODE),
        (f"{CHECKS}.MAX_LISTED_KEY_IDS", request_checks.MAX_LISTED_KEY_IDS + 1, WRONG_CODE),
        (f"{CHECKS}.MAX_LISTED_KEY_IDS", request_checks.MAX_LISTED_KEY_IDS - 1, WRONG_CODE),
    ],
    ids=["exception", "waits", "other-field", "limit-too-high", "limit-too-low", "buffer+1", "list+1", "list-1"],
)
def test_a_planted_bug_is_found(monkeypatch, name, value, kind):
    monkeypatch.setattr(name, value)
    assert kind in fuzz_session(1, range(6_000)).wrong
