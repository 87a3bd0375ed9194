"""The fuzzer finds nothing in the product, and finds planted bugs."""

import pytest

from confcom.aesm.messages import MessageKind
from confcom.aesm.session import RequestReceived, ServerSession
from fuzz.inputs import LEGACY_KINDS, Ending, Input
from fuzz.targets import SessionTarget, fuzz_helper, fuzz_session

FEW = range(4_000)
KEY_CODES = "SUCCESS PARAMETER_ERROR UNSUPPORTED_ATT_KEY_ID"
CODES = {
    MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM: "SUCCESS",
    MessageKind.GET_SUPPORTED_ATT_KEY_IDS: "SUCCESS UNEXPECTED_ERROR PARAMETER_ERROR",
    MessageKind.SELECT_ATT_KEY_ID: KEY_CODES,
    MessageKind.INIT_QUOTE_EX: f"{KEY_CODES} UNEXPECTED_ERROR",
    MessageKind.GET_QUOTE_SIZE_EX: KEY_CODES,
    MessageKind.GET_QUOTE_EX: f"{KEY_CODES} UNEXPECTED_ERROR INVALID_REPORT",
}
NUM_ANSWERED = "answered GetSupportedAttKeyIDNum SUCCESS"


def test_the_session_has_no_known_bug():
    tally = fuzz_session(7, FEW)
    assert not tally.wrong
    assert tally.outcomes.total() == len(FEW)


@pytest.mark.slow
def test_a_live_helper_has_no_known_bug():
    assert not fuzz_helper(7, range(1_000)).wrong


def test_every_kind_of_request_and_code_is_reached():
    reached = set(fuzz_session(3, FEW).outcomes)
    legacy = [kind for kind in MessageKind if kind in LEGACY_KINDS]
    assert {f"answered {kind.call} SERVICE_UNAVAILABLE" for kind in legacy} <= reached
    for kind, codes in CODES.items():
        assert {f"answered {kind.call} {code}" for code in codes.split()} <= reached


WAIT, HALF_CLOSE, CLOSE = Ending.WAIT, Ending.HALF_CLOSE, Ending.CLOSE
INPUTS = {
    "field 0 in a legacy request": ("080000007206020461626364", WAIT, "answered SgxRegister SERVICE_UNAVAILABLE"),
    "field 0 in num": ("09000000aa0106020461626364", WAIT, "closed"),
    "no buf size": ("070000008a01041a026162", WAIT, "answered GetQuoteEx UNEXPECTED_ERROR"),
    "header byte by byte": ("06+00+00+00", HALF_CLOSE, "closed"),
    "header then gone": ("06000000", CLOSE, "closed"),
    "length 0": ("00000000", WAIT, "closed"),
    "length of 4 gib": ("ffffffff", WAIT, "closed"),
    "length too large by one": ("01000100", WAIT, "closed"),
    "two requests in a frame": ("06000000aa0100aa0100", WAIT, NUM_ANSWERED),
    "two frames": ("06000000aa010348987506000000aa0103489875", WAIT, NUM_ANSWERED),
    "buf size above 32 bits": (
        "0e000000b2010b088082808090808080800000",
        WAIT,
        "answered GetSupportedAttKeyIDs SUCCESS",
    ),
    "tag of 5 bytes": ("0a000000aa81808000032848987500", HALF_CLOSE, "closed"),
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


class QuotesAnotherReport(ServerSession):
    def respond(self, response):
        quote, answer = getattr(response, "quote", None), super().respond(response)
        return answer.replace(quote, quote[:100] + bytes([quote[100] ^ 1]) + quote[101:]) if quote else answer


class AnswersInField20(ServerSession):
    def respond(self, response):
        return super().respond(response).replace(b"\xaa\x01", b"\xa2\x01", 1)


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (FailsForOneKeyIdLength, "IndexError"),
        (WaitsAfterMalformedInput, "another number of events"),
        (AnswersInField20, "an answer cannot be read"),
        (QuotesAnotherReport, "a quote is not over the report that was sent, or not as long as asked"),
    ],
)
def test_a_planted_bug_is_found(monkeypatch, planted, kind):
    monkeypatch.setattr("fuzz.targets.ServerSession", planted)
    assert kind in fuzz_session(1, range(6_000)).wrong
