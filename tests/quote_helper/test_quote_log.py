import asyncio
import json
import logging
import os
import signal

import pytest
from prometheus_client import generate_latest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import (
    GetQuoteExResponse,
    GetSupportedAttKeyIdNumResponse,
    IncompleteRequest,
    MessageKind,
)
from confcom.client import AesmClient
from confcom.daemon.logs import JsonFormatter
from confcom.errors import ExitCode
from confcom.quote_helper import quote_log
from confcom.quote_helper.metrics import HelperMetrics
from confcom.quote_helper.quote_log import (
    ALL_QUOTES,
    FIRST_LINES_IN_ALL,
    FURTHER_LINES_IN_ALL,
    MALFORMED_LINES_IN_ALL,
    WINDOW_SECONDS,
    QuoteLog,
)
from confcom.quote_helper.transport.peers import Peer
from testkit.conditions import until
from testkit.full_pipe import full_pipe
from testkit.helper_in_process import NUM

POD = "8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a"
CONTAINER = "3f7a" * 16
PEER = Peer((POD, CONTAINER), 1000, 17, POD, CONTAINER)
OTHER = Peer(1001, 1001, 0)
SUCCESS = GetQuoteExResponse(0, quote=b"q")
REFUSED = GetQuoteExResponse(AesmErrorCode.INVALID_REPORT)
ANSWERS_NUM = GetSupportedAttKeyIdNumResponse(0, 1)
REQUESTS = "confcom_quote_helper_request_seconds_count"


@pytest.fixture
def lines(caplog):
    """Returns the log's JSON lines so far as objects; formats each record only once."""
    caplog.set_level(logging.INFO)
    formatter, found = JsonFormatter(), []

    def read(event=None):
        found.extend(json.loads(formatter.format(record)) for record in caplog.records[len(found) :])
        return [line for line in found if event in {None, line["event"]}]

    return read


@pytest.fixture
def answered(clock, request_, registry):
    """Makes a quote log with two more methods: `answers` logs answers, and `minute` ends a minute."""

    class Log(QuoteLog):
        def answers(self, peer, response, times=1):
            for _ in range(times):
                self.answered(peer, request_, response, 0)

        def minute(self):
            clock.now += WINDOW_SECONDS
            self.log_counts()

    return lambda quote_lines: Log(quote_lines, HelperMetrics(registry), clock)


@pytest.fixture
def violation():
    return ProtocolError("1 bytes are no message")


def peers(count):
    return [Peer(uid, uid, 0) for uid in range(2000, 2000 + count)]


# Tests of single log lines.


def test_a_quote_is_one_line_that_says_whose_it_is(answered, lines, request_, enclave):
    answered(10).answered(PEER, request_, SUCCESS, 0.0001234567)
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
        "mrenclave": enclave.mr_enclave.hex(),
    }


def test_neither_report_data_nor_a_refused_mrenclave_is_logged(answered, lines, request_):
    log = answered(10)
    log.answers(PEER, REFUSED)
    log.answered(PEER, IncompleteRequest(MessageKind.GET_QUOTE_EX), GetQuoteExResponse(1), 0)
    assert [line["result"] for line in lines("quote")] == ["invalid_report", "unexpected_error"]
    assert not [line for line in lines() if "mrenclave" in line]
    log.answers(PEER, SUCCESS)
    text, report_data = json.dumps(lines()), request_.report[320:384]
    assert report_data.hex() not in text
    assert repr(report_data)[2:-1] not in text


@pytest.mark.parametrize("quote_lines", [10, ALL_QUOTES])
def test_other_calls_are_not_logged(answered, lines, quote_lines):
    answered(quote_lines).answered(PEER, NUM, ANSWERS_NUM, 0)
    assert lines() == []


def test_each_event_is_counted_and_logged(answered, lines, registry, violation):
    log = answered(1)
    log.answers(PEER, SUCCESS)
    log.answers(PEER, REFUSED)
    log.accepting_paused("no descriptor is left")
    log.malformed(PEER, violation)
    log.log_counts(after_seconds=0)
    for result in ("success", "invalid_report"):
        assert registry.get_sample_value(REQUESTS, {"request": "GetQuoteEx", "result": result}) == 1
    assert registry.get_sample_value("confcom_quote_helper_accepting_paused_total") == 1
    assert [line["event"] for line in lines()] == ["quote", "accepting-paused", "malformed-request", "more-quotes"]


def test_no_metric_names_a_client(answered, registry, request_):
    answered(1).answers(PEER, SUCCESS)
    text = generate_latest(registry).decode()
    assert POD not in text
    assert request_.report[64:96].hex() not in text
    assert CONTAINER not in text


# Tests of the number of log lines.


async def test_what_is_due_is_done_while_it_runs(answered, lines, clock, monkeypatch):
    monkeypatch.setattr(quote_log, "TICK_SECONDS", 0.001)
    log = answered(1)
    log.answers(PEER, SUCCESS, 3)
    clock.now += WINDOW_SECONDS
    running = asyncio.create_task(log.run())
    await until(lambda: lines("more-quotes"))
    running.cancel()
    assert lines()[-1]["count"] == 2


@pytest.mark.parametrize(("quote_lines", "logged"), [(0, 0), (1, 1), (3, 3)])
def test_beyond_the_rate_quotes_are_counted(answered, clock, lines, quote_lines, logged):
    log = answered(quote_lines)
    for minute in range(1, 3):
        for _ in range(5):
            log.answers(PEER, SUCCESS)
            log.answers(PEER, REFUSED)
        assert [line["uid"] for line in lines("quote")] == [1000] * logged * minute
        clock.now += WINDOW_SECONDS - 0.1
        log.log_counts()
        assert len(lines("more-quotes")) == minute - 1
        clock.now += 0.2
        log.log_counts()
        line = lines("more-quotes")[-1]
        assert (line["count"], line["within_seconds"]) == (10 - logged, 60.1)
        assert sum(line["results"].values()) == 10 - logged
        assert line["results"]["invalid_report"] == 5 - logged // 2
    log.minute()
    assert len(lines("more-quotes")) == 2, "a minute without quotes has no line"


def test_at_the_end_all_counts_are_logged(answered, clock, lines, violation):
    log = answered(1)
    log.answers(PEER, SUCCESS, 4)
    for _ in range(4):
        log.malformed(PEER, violation)
    clock.now += 1
    log.log_counts(after_seconds=0)
    log.log_counts(after_seconds=0)
    counts = [(line["event"], line["count"]) for line in lines() if "count" in line]
    assert counts == [("more-quotes", 3), ("more-malformed-requests", 3)]


def test_a_flood_of_peers_is_bounded_and_still_counted(answered, lines):
    log = answered(60)
    for minute in range(1, 4):
        before = len(lines())
        for peer in peers(1000):
            log.answers(peer, SUCCESS, 2)
        log.minute()
        assert len(lines()) - before == FIRST_LINES_IN_ALL + FURTHER_LINES_IN_ALL + 1
        assert len(lines("quote")) + sum(line["count"] for line in lines("more-quotes")) == minute * 2000


def test_peers_with_many_lines_leave_the_others_theirs(answered, lines):
    log = answered(60)
    *noisy, quiet = peers(20)
    for _ in range(200):
        for peer in noisy:
            log.answers(peer, SUCCESS)
    log.answers(quiet, SUCCESS)
    assert len(lines("quote")) == len(noisy) + FURTHER_LINES_IN_ALL + 1
    assert lines("quote")[-1]["uid"] == quiet.uid


def test_one_peer_has_the_lines_that_the_operator_allows(answered, lines):
    answered(1000).answers(PEER, SUCCESS, 1500)
    assert len(lines("quote")) == 1000


def test_with_all_every_quote_has_a_line(answered, lines):
    log = answered(ALL_QUOTES)
    log.answers(PEER, SUCCESS, 1000)
    for peer in peers(1000):
        log.answers(peer, REFUSED)
    log.minute()
    log.log_counts(after_seconds=0)
    results = [(line["event"], line["result"]) for line in lines()]
    assert results == [("quote", "success")] * 1000 + [("quote", "invalid_report")] * 1000


# Tests of malformed requests.


def test_malformed_input_is_one_line_per_peer_and_minute(answered, lines, violation):
    log = answered(10)
    for _ in range(100):
        log.malformed(PEER, violation)
        log.malformed(OTHER, violation)
    told = [(line["level"], line["uid"], line["pod"]) for line in lines()]
    assert told == [("warning", 1000, POD), ("warning", 1001, "")]
    assert str(violation) == lines()[0]["error"]
    log.minute()
    assert [line["count"] for line in lines("more-malformed-requests")] == [198]


def test_malformed_requests_of_many_peers_are_bounded(answered, lines, violation):
    log = answered(60)
    for peer in peers(100):
        log.malformed(peer, violation)
        log.malformed(peer, violation)
    assert len(lines("malformed-request")) == MALFORMED_LINES_IN_ALL
    log.answers(PEER, SUCCESS)
    assert len(lines("quote")) == 1, "they cost no quote its line"
    log.minute()
    (line,) = lines("more-malformed-requests")
    assert (line["count"], line["within_seconds"]) == (200 - MALFORMED_LINES_IN_ALL, 60.0)


# Tests of pauses in which no connections are accepted.


def test_pauses_that_clients_cause_do_not_fill_the_log(answered, lines):
    log = answered(10)
    for _ in range(20):
        log.accepting_paused("all connection slots are in use")
    assert [line["event"] for line in lines()] == ["accepting-paused"]


# Tests with a reader of the log that stalls.


AUDIT = ("--log-quotes-per-peer", "all")
"""Flags with which the helper logs every quote; these lines may have to wait for the log's reader."""


def test_a_stalled_reader_stops_no_quote_no_probe_and_no_end(start_helper, enclave):
    reader, writer = full_pipe()
    helper = start_helper(*AUDIT, stderr=writer).wait_ready()
    os.close(writer)
    client = AesmClient(helper.socket)
    report = enclave.create_report(client.init_quote().target_info, bytes(64))
    for _ in range(20):
        assert client.get_quote(report).quote
    assert helper.get("/livez") == (200, "ok\n")
    assert helper.ready
    assert helper.stop(signal.SIGTERM) == ExitCode.OK
    assert not helper.socket.exists()
    os.close(reader)
