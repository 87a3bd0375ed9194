"""The flags about peers: what a real helper does with them."""

import os

import pytest

from confcom.client import AesmClient
from confcom.errors import ExitCode

EXPIRY = 'confcom_quote_helper_expiry_timestamp_seconds{{what="{}"}}'


def quote(helper, enclave, times=1):
    client = AesmClient(helper.socket)
    target = client.init_quote().target_info
    for number in range(times):
        client.get_quote(enclave.create_report(target, bytes([number]) * 64))


@pytest.mark.parametrize(("lines", "logged"), [("2", 2), ("all", 100)])
def test_who_got_which_quote_is_logged(start_helper, enclave, lines, logged):
    helper = start_helper("--log-quotes-per-peer", lines)
    quote(helper.wait_ready(), enclave, times=100)
    assert helper.stop() == ExitCode.OK
    me = {"uid": os.getuid(), "pid": os.getpid(), "pod": "", "container": ""}
    quotes = helper.events("quote")
    assert len(quotes) == logged
    assert all(me.items() <= line.items() and line["result"] == "success" for line in quotes)
    counts = [(more["uid"], more["count"], more["results"]) for more in helper.events("more-quotes")]
    left = 100 - logged
    assert counts == ([(os.getuid(), left, {"success": left})] if left else [])


def test_when_certificates_end_is_shown(start_helper):
    helper = start_helper().wait_ready()
    helper.wait_until(lambda: helper.metric(EXPIRY.format("pck_certificate")) != 0)
    assert helper.metric(EXPIRY.format("pck_certificate")) > helper.metric(EXPIRY.format("collateral")) > 1_767_225_600
