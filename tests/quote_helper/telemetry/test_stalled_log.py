"""A helper whose stderr is a pipe that nobody reads, from its start on."""

import json
import os
import signal

from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import GetQuoteExRequest
from confcom.client import AesmClient
from confcom.daemon.log_stream import MAX_WAITING_RECORDS
from confcom.errors import ExitCode
from testkit.full_pipe import full_pipe, lines_of, read_in_thread

DROPPED = "confcom_log_records_dropped_total"
COUNT = b'"count": '
"""The field of the line that says how many were dropped."""
LINES = 60_000
"""More than are made here: the log's bound for one peer is not what is tried."""


def test_a_log_reader_that_stalls_stops_neither_quotes_nor_probes_nor_the_end(start_helper, enclave):
    reader, writer = full_pipe()
    helper = start_helper("--log-quotes-per-peer", str(LINES), stderr=writer).wait_ready()
    os.close(writer)
    client = AesmClient(helper.socket)
    report = enclave.create_report(client.init_quote().target_info, bytes(64))
    for _ in range(20):
        assert client.get_quote(report).quote
    assert helper.get("/livez") == (200, "ok\n")
    assert helper.get("/readyz") == (200, "ok\n")
    assert helper.stop(signal.SIGTERM) == ExitCode.OK
    assert not helper.socket.exists()
    os.close(reader)


def test_when_the_reader_goes_on_it_is_told_how_much_it_missed(start_helper, wait_until):
    reader, writer = full_pipe()
    helper = start_helper("--log-quotes-per-peer", str(LINES), stderr=writer).wait_ready()
    os.close(writer)
    # A report of one byte is refused without the provider, and gets a line as a quote does.
    request = encode_frame(encode_request(GetQuoteExRequest(bytes(1), 8192)))
    asked = MAX_WAITING_RECORDS + 100
    for _ in range(asked):
        assert helper.send(request)
    assert helper.metric(DROPPED) > 0
    thread, text = read_in_thread(reader)
    wait_until(lambda: COUNT in b"".join(text))
    assert helper.stop(signal.SIGTERM) == ExitCode.OK
    thread.join()
    lines = [json.loads(line) for line in lines_of(b"".join(text))]
    (told,) = [line for line in lines if "count" in line]
    assert told["count"] > 0
    assert [line.get("event") for line in lines].count("quote") + told["count"] >= asked
    assert lines[-1]["signal"] == "SIGTERM"
