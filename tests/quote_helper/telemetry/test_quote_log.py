"""What is logged of quotes and of malformed input, by whom, and how often."""

import json
import logging

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.messages import (
    GetQuoteExResponse,
    GetSupportedAttKeyIdNumRequest,
    GetSupportedAttKeyIdNumResponse,
    IncompleteRequest,
    MessageKind,
)
from confcom.aesm.session import ServerSession
from confcom.daemon.logs import JsonFormatter
from confcom.quote_helper.telemetry.peer_windows import MAX_PEERS, WINDOW_SECONDS
from confcom.quote_helper.telemetry.quote_log import (
    ALL_QUOTES,
    FIRST_LINES_IN_ALL,
    FURTHER_LINES_IN_ALL,
    MALFORMED_LINES_IN_ALL,
    QuoteLog,
)
from confcom.quote_helper.telemetry.rejected_reports import LINES_IN_ALL
from confcom.quote_helper.transport.peers import Peer

POD = "8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a"
CONTAINER = "3f7a" * 16
PEER = Peer((POD, CONTAINER), 1000, 17, POD, CONTAINER)
OTHER = Peer(1001, 1001, 0)
SUCCESS = GetQuoteExResponse(0, quote=b"q")
REFUSED = GetQuoteExResponse(AesmErrorCode.INVALID_REPORT)


@pytest.fixture
def lines(caplog):
    """The JSON lines so far, as objects."""
    caplog.set_level(logging.INFO)
    formatter = JsonFormatter()

    def read(event=None):
        found = [json.loads(formatter.format(record)) for record in caplog.records]
        return [line for line in found if event in {None, line["event"]}]

    return read


@pytest.fixture
def violation():
    return ServerSession().receive(encode_frame(b"\xff"))


def test_a_quote_is_one_line_that_says_whose_it_is(clock, lines, request_, enclave):
    QuoteLog(10, clock).answered(PEER, request_, SUCCESS, 0.0001234567)
    (line,) = lines()
    assert {key: line[key] for key in line.keys() - {"time", "logger"}} == {
        "level": "info",
        "message": "quote",
        "event": "quote",
        "uid": 1000,
        "pid": 17,
        "pod": POD,
        "container": CONTAINER,
        "call": "GetQuoteEx",
        "result": "success",
        "seconds": 0.000123,
        "mrenclave": request_.report[64:96].hex(),
    }


def test_the_mrenclave_of_a_report_that_was_not_accepted_is_never_told(clock, lines, request_):
    log = QuoteLog(10, clock)
    log.answered(PEER, request_, REFUSED, 0)
    log.answered(PEER, IncompleteRequest(MessageKind.GET_QUOTE_EX, ("report",)), GetQuoteExResponse(1), 0)
    assert [line["result"] for line in lines("quote")] == ["invalid_report", "unexpected_error"]
    assert not [line for line in lines() if "mrenclave" in line]


def test_report_data_is_never_told(clock, lines, request_):
    log = QuoteLog(10, clock)
    log.answered(PEER, request_, SUCCESS, 0)
    log.answered(PEER, request_, REFUSED, 0)
    text, report_data = json.dumps(lines()), request_.report[320:384]
    assert report_data.hex() not in text
    assert repr(report_data)[2:-1] not in text


@pytest.mark.parametrize("quote_lines", [10, ALL_QUOTES])
def test_other_calls_are_not_logged(clock, lines, quote_lines):
    QuoteLog(quote_lines, clock).answered(
        PEER, GetSupportedAttKeyIdNumRequest(), GetSupportedAttKeyIdNumResponse(0, 1), 0
    )
    assert lines() == []


def test_beyond_the_rate_quotes_are_counted_by_result_for_each_peer(clock, lines, request_):
    log = QuoteLog(3, clock)
    for _ in range(5):
        log.answered(PEER, request_, SUCCESS, 0)
        log.answered(PEER, request_, REFUSED, 0)
    log.answered(OTHER, request_, SUCCESS, 0)
    assert [line["uid"] for line in lines("quote")] == [1000, 1000, 1000, 1001]
    clock.now += WINDOW_SECONDS - 0.1
    log.tick()
    assert lines("more-quotes") == []
    clock.now += 0.2
    log.tick()
    (line,) = lines("more-quotes")
    assert (line["uid"], line["pod"], line["container"]) == (1000, POD, CONTAINER)
    assert (line["count"], line["within_seconds"]) == (7, 60.1)
    assert line["results"] == {"success": 3, "invalid_report": 4}


@pytest.mark.parametrize("quote_lines", [0, 1, 3])
def test_no_minute_has_more_lines_than_allowed_or_the_one_with_the_count(clock, lines, request_, quote_lines):
    log = QuoteLog(quote_lines, clock)
    before = 0
    for _ in range(4):
        for _ in range(100):
            log.answered(PEER, request_, SUCCESS, 0)
        assert len(lines()) - before <= max(quote_lines, 1)
        before = len(lines())
        clock.now += WINDOW_SECONDS
        log.tick()
    counted = sum(line["count"] for line in lines("more-quotes"))
    assert len(lines("quote")) + counted == 400


def test_after_a_quiet_minute_all_lines_are_there_again(clock, lines, request_):
    log = QuoteLog(2, clock)
    for _ in range(3):
        log.answered(PEER, request_, SUCCESS, 0)
    for _ in range(2):
        clock.now += WINDOW_SECONDS
        log.tick()
    for _ in range(2):
        log.answered(PEER, request_, SUCCESS, 0)
    assert len(lines("quote")) == 4
    assert len(lines("more-quotes")) == 1


def test_at_the_end_everything_is_said(clock, lines, request_, violation):
    log = QuoteLog(1, clock)
    for _ in range(4):
        log.answered(PEER, request_, SUCCESS, 0)
        log.malformed(PEER, violation)
    clock.now += 1
    log.close()
    log.close()
    assert [(line["event"], line["count"]) for line in lines() if "count" in line] == [
        ("more-quotes", 3),
        ("more-malformed-requests", 3),
    ]


def test_malformed_input_is_one_line_per_peer_and_minute(clock, lines, violation):
    log = QuoteLog(10, clock)
    for _ in range(100):
        log.malformed(PEER, violation)
        log.malformed(OTHER, violation)
    assert [(line["level"], line["uid"], line["pod"]) for line in lines()] == [
        ("warning", 1000, POD),
        ("warning", 1001, ""),
    ]
    assert str(violation.error) == lines()[0]["error"]
    clock.now += WINDOW_SECONDS
    log.tick()
    for _ in range(100):
        log.malformed(PEER, violation)
    assert [(line["uid"], line["count"]) for line in lines()[2:]] == [(1000, 99), (1001, 99)]
    clock.now += WINDOW_SECONDS
    log.tick()
    assert [(line["uid"], line["count"]) for line in lines()[4:]] == [(1000, 100)]


def peers(count):
    return [Peer(uid, uid, 0) for uid in range(10_000, 10_000 + count)]


def told(lines):
    """How many quotes the lines tell of, one by one or counted."""
    return len(lines("quote")) + sum(line["count"] for line in lines("more-quotes"))


def test_a_flood_of_peers_is_bounded_and_still_counted(clock, lines, request_):
    log = QuoteLog(60, clock)
    for minute in range(1, 6):
        before = len(lines())
        for peer in peers(3 * MAX_PEERS):
            for _ in range(2):
                log.answered(peer, request_, SUCCESS, 0)
        clock.now += WINDOW_SECONDS
        log.tick()
        # The count of those that were not told one by one comes within a minute, and is one line.
        assert len(lines()) - before <= FIRST_LINES_IN_ALL + FURTHER_LINES_IN_ALL + FIRST_LINES_IN_ALL + 1
        assert told(lines) >= (minute - 1) * 6 * MAX_PEERS
    log.close()
    assert told(lines) == 5 * 6 * MAX_PEERS
    assert {line["peers"] for line in lines("more-quotes") if "uid" not in line} == {"others"}


@pytest.mark.parametrize("each", [1, 5, 70])
def test_six_hundred_peers_cause_no_more_lines_in_a_minute_than_are_allowed(clock, lines, request_, violation, each):
    """They caused 29,400 before all peers together were bounded."""
    log = QuoteLog(60, clock)
    allowed = FIRST_LINES_IN_ALL + FURTHER_LINES_IN_ALL + MALFORMED_LINES_IN_ALL + 2
    for _ in range(5):
        before = len(lines())
        for _ in range(int(WINDOW_SECONDS)):
            for peer in peers(600)[:: 70 // each]:
                log.answered(peer, request_, SUCCESS, 0)
                log.malformed(peer, violation)
            log.tick()
            clock.now += 1
        assert 0 < len(lines()) - before <= allowed


def test_peers_with_many_lines_leave_the_others_theirs(clock, lines, request_):
    log = QuoteLog(60, clock)
    *noisy, quiet = peers(20)
    for _ in range(200):
        for peer in noisy:
            log.answered(peer, request_, SUCCESS, 0)
    log.answered(quiet, request_, SUCCESS, 0)
    assert len(lines("quote")) == len(noisy) + FURTHER_LINES_IN_ALL + 1
    assert lines("quote")[-1]["uid"] == quiet.uid
    clock.now += WINDOW_SECONDS
    log.tick()
    assert [line["uid"] for line in lines("more-quotes")] == [peer.uid for peer in noisy]


def test_malformed_requests_cost_no_quote_its_line(clock, lines, request_, violation):
    log = QuoteLog(60, clock)
    for peer in peers(500):
        log.malformed(peer, violation)
    assert len(lines("malformed-request")) == MALFORMED_LINES_IN_ALL
    log.answered(PEER, request_, SUCCESS, 0)
    assert len(lines("quote")) == 1
    log.close()
    (others,) = lines("more-malformed-requests")
    assert (others["peers"], others["count"]) == ("others", 500 - MALFORMED_LINES_IN_ALL)


def test_what_has_no_line_is_told_of_the_time_in_which_it_was(clock, lines, violation):
    log = QuoteLog(60, clock)
    for peer in peers(100):
        log.malformed(peer, violation)
        log.malformed(peer, violation)
    clock.now += WINDOW_SECONDS
    log.tick()
    # As many counts have lines as there may be; the others are put together.
    assert len(lines("more-malformed-requests")) == MALFORMED_LINES_IN_ALL
    clock.now += WINDOW_SECONDS
    log.tick()
    others = lines("more-malformed-requests")[-1]
    assert (others["peers"], others["count"], others["within_seconds"]) == ("others", 80, 120.0)


def test_one_peer_may_have_more_lines_if_the_operator_says_so(clock, lines, request_):
    log = QuoteLog(1000, clock)
    for _ in range(1500):
        log.answered(PEER, request_, SUCCESS, 0)
    assert len(lines("quote")) == 1000


def test_with_all_every_quote_has_a_line(clock, lines, request_):
    log = QuoteLog(ALL_QUOTES, clock)
    for _ in range(1000):
        log.answered(PEER, request_, SUCCESS, 0)
    for peer in peers(2 * MAX_PEERS):
        log.answered(peer, request_, REFUSED, 0)
    log.tick()
    log.close()
    results = [(line["event"], line["result"]) for line in lines()]
    assert results == [("quote", "success")] * 1000 + [("quote", "invalid_report")] * 2 * MAX_PEERS


STALE = GetQuoteExResponse(AesmErrorCode.ATT_KEY_NOT_INITIALIZED)
STALE_REPORTS = "stale-reports"


def test_the_third_stale_report_of_a_peer_in_a_minute_is_explained_once(clock, lines, request_):
    log = QuoteLog(0, clock)
    for count in range(5):
        assert len(lines(STALE_REPORTS)) == int(count >= 3)
        log.answered(PEER, request_, STALE, 0)
        log.answered(OTHER, request_, REFUSED, 0)
    (line,) = lines(STALE_REPORTS)
    assert (line["level"], line["pod"], line["code"]) == ("warning", POD, 42)
    assert line["why"]
    assert line["remedy"]
    clock.now += WINDOW_SECONDS
    log.tick()
    for _ in range(3):
        log.answered(PEER, request_, STALE, 0)
    assert len(lines(STALE_REPORTS)) == 2


def test_a_client_that_follows_an_update_is_not_explained(clock, lines, request_):
    log = QuoteLog(0, clock)
    for _ in range(10):
        log.answered(PEER, request_, STALE, 0)
        log.answered(PEER, request_, SUCCESS, 0)
        clock.now += WINDOW_SECONDS / 2
        log.tick()
    assert lines(STALE_REPORTS) == []


def test_explanations_are_bounded_in_all(clock, lines, request_):
    log = QuoteLog(0, clock)
    for peer in peers(2 * MAX_PEERS):
        for _ in range(4):
            log.answered(peer, request_, STALE, 0)
    assert len(lines(STALE_REPORTS)) == LINES_IN_ALL
