"""A helper whose stderr is a pipe that nobody reads, from its start on."""

import json
import os
import signal

from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import GetQuoteExRequest
from confcom.client import AesmClient
from confcom.errors import ExitCode
from testkit.full_pipe import full_pipe, lines_of, read_in_thread

DROPPED = "confcom_log_records_dropped_total"
COUNT = b'"count": '
"""The field of the line that says how many were dropped."""
AUDIT = ("--log-quotes-per-peer", "all")
WAITING = 64
"""Lines that may wait for the reader."""


def test_a_stalled_reader_stops_no_quote_no_probe_and_no_end(start_helper, enclave):
    reader, writer = full_pipe()
    helper = start_helper(*AUDIT, stderr=writer).wait_ready()
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


def test_what_a_stalled_reader_misses_is_bounded_and_counted(start_helper, wait_until):
    reader, writer = full_pipe()
    helper = start_helper(
        *AUDIT, stderr=writer, alterations={"log_records": WAITING, "rendering_seconds": 0}
    ).wait_ready()
    os.close(writer)
    # A report of one byte is refused without the provider, and gets a line as a quote does.
    request = encode_frame(encode_request(GetQuoteExRequest(bytes(1), 8192)))
    asked = 3 * WAITING
    for _ in range(asked):
        assert helper.send(request)
    assert helper.metric(DROPPED) >= asked - WAITING
    thread, text = read_in_thread(reader)
    wait_until(lambda: COUNT in b"".join(text))
    assert helper.stop(signal.SIGTERM) == ExitCode.OK
    thread.join()
    lines = [json.loads(line) for line in lines_of(b"".join(text))]
    (told,) = [line for line in lines if "count" in line]
    assert told["count"] > 0
    assert [line.get("event") for line in lines].count("quote") + told["count"] >= asked
    assert lines[-1]["signal"] == "SIGTERM"
