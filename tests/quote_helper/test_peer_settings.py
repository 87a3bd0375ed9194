"""The flags about peers: what a real helper does with them."""

import json
import os

from confcom.client import AesmClient
from confcom.errors import ExitCode

EXPIRY = 'confcom_quote_helper_expiry_timestamp_seconds{{what="{}"}}'
AUDITED = 'confcom_quote_helper_audit_records_total{{outcome="{}"}}'


def quote(helper, enclave, times=1):
    client = AesmClient(helper.socket)
    target = client.init_quote().target_info
    for number in range(times):
        client.get_quote(enclave.create_report(target, bytes([number]) * 64))


def test_who_got_which_quote_is_logged_and_kept(start_helper, enclave, short_dir):
    helper = start_helper("--audit-file", str(short_dir / "audit"), "--log-quotes-per-peer", "2")
    quote(helper.wait_ready(), enclave, times=5)
    assert helper.stop() == ExitCode.OK

    me = {"uid": os.getuid(), "pid": os.getpid(), "pod": "", "container": ""}
    quotes = helper.events("quote")
    assert len(quotes) == 2
    assert all(me.items() <= line.items() and line["result"] == "success" for line in quotes)
    (more,) = helper.events("more-quotes")
    assert (more["uid"], more["count"], more["results"]) == (os.getuid(), 3, {"success": 3})

    records = [json.loads(line) for line in (short_dir / "audit").read_text().splitlines()]
    assert [record["call"] for record in records if record["call"] != "GetQuoteSizeEx"] == [
        "InitQuoteEx",
        *["GetQuoteEx"] * 5,
    ]
    assert all(me.items() <= record.items() for record in records)
    assert {record.get("mrenclave") for record in records} == {None, quotes[0]["mrenclave"]}


def test_an_audit_file_that_cannot_be_written_keeps_no_client_from_its_quote(start_helper, enclave, short_dir):
    helper = start_helper("--audit-file", str(short_dir / "missing" / "audit")).wait_ready()
    quote(helper, enclave)
    assert helper.metric(AUDITED.format("written")) == 0
    assert helper.stop() == ExitCode.OK
    assert len(helper.events("audit-records-wait")) == 1
    assert [line["count"] for line in helper.events("audit-records-lost")] == [3]


def test_when_certificates_end_is_shown(start_helper):
    helper = start_helper().wait_ready()
    helper.wait_until(lambda: helper.metric(EXPIRY.format("pck_certificate")) != 0)
    assert helper.metric(EXPIRY.format("pck_certificate")) > helper.metric(EXPIRY.format("collateral")) > 1_767_225_600
