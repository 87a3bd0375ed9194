"""The flags about peers, from the command line to what a real helper does."""

import json
import os

import pytest

from confcom.client import AesmClient
from confcom.errors import ExitCode, SettingsError
from confcom.quote_helper.settings import parse_settings

EXPIRY = 'confcom_quote_helper_expiry_timestamp_seconds{{what="{}"}}'
AUDITED = 'confcom_quote_helper_audit_records_total{{outcome="{}"}}'


def parse(*arguments, **environ):
    return parse_settings(["--simulated", *arguments], prog="helper", environ={"HOME": "/h"} | environ)


def test_defaults():
    parsed = parse()
    assert (parsed.identify_pods, parsed.log_quotes_per_peer) == (False, 60)
    assert (parsed.audit_file, parsed.audit_max_mib) == (None, 64)


def test_by_flags_and_by_variables():
    by_flags = parse(
        *("--identify-pods", "--log-quotes-per-peer", "5", "--audit-file", "/var/a", "--audit-max-mib", "1")
    )
    by_variables = parse(
        CONFCOM_IDENTIFY_PODS="true",
        CONFCOM_LOG_QUOTES_PER_PEER="5",
        CONFCOM_AUDIT_FILE="/var/a",
        CONFCOM_AUDIT_MAX_MIB="1",
    )
    assert by_flags == by_variables != parse()


@pytest.mark.parametrize(
    "environ", [{"CONFCOM_LOG_QUOTES_PER_PEER": "-1"}, {"CONFCOM_AUDIT_MAX_MIB": "0"}, {"CONFCOM_AUDIT_MAX_MIB": "1e3"}]
)
def test_bad_values_are_refused(environ):
    with pytest.raises(SettingsError, match=next(iter(environ))):
        parse(**environ)


def lines_of(helper, message):
    return [line for line in map(json.loads, helper.log.read_text().splitlines()) if line["message"] == message]


def quote(helper, enclave, times=1):
    client = AesmClient(helper.socket)
    target = client.init_quote().target_info
    for number in range(times):
        client.get_quote(enclave.create_report(target, bytes([number]) * 64))


def test_who_got_which_quote_is_logged_and_kept(start_helper, enclave, short_dir):
    helper = start_helper(arguments=["--audit-file", str(short_dir / "audit"), "--log-quotes-per-peer", "2"])
    quote(helper.wait_ready(), enclave, times=5)
    assert helper.stop() == ExitCode.OK

    me = {"uid": os.getuid(), "pid": os.getpid(), "pod": "", "container": ""}
    quotes = lines_of(helper, "quote")
    assert len(quotes) == 2
    assert all(me.items() <= line.items() and line["result"] == "success" for line in quotes)
    (more,) = lines_of(helper, "more quotes")
    assert (more["uid"], more["count"], more["results"]) == (os.getuid(), 3, {"success": 3})

    records = [json.loads(line) for line in (short_dir / "audit").read_text().splitlines()]
    assert [record["call"] for record in records if record["call"] != "GetQuoteSizeEx"] == [
        "InitQuoteEx",
        *["GetQuoteEx"] * 5,
    ]
    assert all(me.items() <= record.items() for record in records)
    assert {record.get("mrenclave") for record in records} == {None, quotes[0]["mrenclave"]}


def test_an_audit_file_that_cannot_be_written_keeps_no_client_from_its_quote(start_helper, enclave, short_dir):
    helper = start_helper(arguments=["--audit-file", str(short_dir / "missing" / "audit")]).wait_ready()
    quote(helper, enclave)
    assert helper.metric(AUDITED.format("written")) == 0
    assert helper.stop() == ExitCode.OK
    (waiting,) = lines_of(helper, "audit records wait")
    assert "No such file or directory" in waiting["error"]
    (lost,) = lines_of(helper, "audit records were lost at the end")
    assert lost["count"] == 3


def test_when_certificates_end_is_shown(start_helper, wait_until):
    helper = start_helper().wait_ready()
    wait_until(lambda: helper.metric(EXPIRY.format("pck_certificate")) is not None)
    assert helper.metric(EXPIRY.format("pck_certificate")) > helper.metric(EXPIRY.format("collateral")) > 1_767_225_600
