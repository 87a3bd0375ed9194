"""Compares a real helper with each row of `rows.json`; `test_deviations.py` has intended deviations."""

import pytest

from testkit.replay import rows, wire
from testkit.replay.clients import encode

NUM = encode({21: {"9": 15_000}})
RECORDED_NUM = wire.frame(NUM)


@pytest.fixture(scope="module")
def known(helper):
    return rows.values(helper.ask)


@pytest.mark.parametrize("row", rows.REFERENCE, ids=lambda row: row["row"])
def test_row(helper, known, row):
    rows.require_row(row, helper.ask, known)


def test_malformed_input_is_closed_without_a_byte(helper):
    dropped = 'confcom_quote_helper_connections_dropped_total{reason="malformed"}'
    whole = (bytes(4), b"\xff" * 16, wire.frame(b"\x00\x01\x02"), b"GET / HTTP/1.1\r\n\r\n")
    cut = (b"\x06\x00", RECORDED_NUM[:-2])
    before = helper.metric(dropped)
    assert {sent: helper.send(sent) for sent in whole} == dict.fromkeys(whole, b"")
    assert {sent: helper.send(sent, half_close=True) for sent in cut} == dict.fromkeys(cut, b"")
    assert helper.metric(dropped) == before + len(whole) + len(cut)
