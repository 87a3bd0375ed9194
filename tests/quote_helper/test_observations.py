import asyncio
import itertools
import logging

import pytest
from prometheus_client import generate_latest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import GetQuoteExResponse
from confcom.quote_helper import quote_log
from confcom.quote_helper.metrics import LOOP_LOOK_SECONDS, HelperMetrics, watch_loop
from confcom.quote_helper.quote_log import WINDOW_SECONDS, QuoteLog
from confcom.quote_helper.transport.peers import Peer

POD = "8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a"
CONTAINER = "3f7a" * 16
PEER = Peer((POD, CONTAINER), 1000, 17, POD, CONTAINER)
SUCCESS = GetQuoteExResponse(0, quote=b"q")
REFUSED = GetQuoteExResponse(AesmErrorCode.INVALID_REPORT)
REQUESTS = "confcom_quote_helper_request_seconds_count"


@pytest.fixture
def metrics(registry):
    return HelperMetrics(registry)


@pytest.fixture
def observer(metrics, clock):
    return QuoteLog(1, metrics, clock)


# Tests of the metrics and log lines of each event.


def test_an_answer_is_counted_and_logged(observer, registry, request_, caplog):
    caplog.set_level(logging.INFO)
    observer.answered(PEER, request_, SUCCESS, 0.5)
    observer.answered(PEER, request_, REFUSED, 0.5)
    observer.accepting_paused("no descriptor is left")
    observer.malformed(PEER, ProtocolError("1 bytes are no message"))
    observer.log_counts(after_seconds=0)
    for result in ("success", "invalid_report"):
        assert registry.get_sample_value(REQUESTS, {"request": "GetQuoteEx", "result": result}) == 1
    assert registry.get_sample_value("confcom_quote_helper_accepting_paused_total") == 1
    assert [record.event for record in caplog.records] == [
        "quote",
        "accepting-paused",
        "malformed-request",
        "more-quotes",
    ]


def test_no_metric_names_a_client(observer, registry, request_):
    observer.answered(PEER, request_, SUCCESS, 0.5)
    text = generate_latest(registry).decode()
    assert POD not in text
    assert request_.report[64:96].hex() not in text
    assert CONTAINER not in text


async def test_what_is_due_is_done_while_it_runs(observer, request_, clock, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(quote_log, "TICK_SECONDS", 0.001)
    for _ in range(3):
        observer.answered(PEER, request_, SUCCESS, 0)
    clock.now += WINDOW_SECONDS
    running = asyncio.create_task(observer.run())
    async with asyncio.timeout(30):
        while caplog.records[-1].event != "more-quotes":  # noqa: ASYNC110 # no event reports a log line
            await asyncio.sleep(0.001)
    running.cancel()
    assert caplog.records[-1].count == 2


async def test_a_blocked_loop_is_told():
    times = itertools.chain([0.0, LOOP_LOOK_SECONDS + 0.25], itertools.repeat(1.0))
    stalls = asyncio.Queue()
    watch = asyncio.create_task(watch_loop(lambda: next(times), stalls.put_nowait))
    assert await stalls.get() == pytest.approx(0.25)
    assert await stalls.get() == 0
    watch.cancel()
