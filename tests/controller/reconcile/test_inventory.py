"""The controller's view of a plugin's inventory."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.controller.reconcile.facts import Accounting, Offer
from confcom.controller.reconcile.inventory import LARGEST_MIB, read_offer
from confcom.errors import MalformedError


def document(**accounting: object) -> bytes:
    fields = {"kind": "capacity", "resource": "example.com/epc", "advertised_mib": 64} | accounting
    return json.dumps({"version": 1, "accounting": fields, "resources": [{"name": "x"}]}).encode()


def test_an_offer_is_read() -> None:
    assert read_offer(document()) == Offer(Accounting.CAPACITY, "example.com/epc", 64)
    assert read_offer(document(kind="device")) == Offer(Accounting.DEVICE, "example.com/epc", 64)
    assert read_offer(document(advertised_mib=LARGEST_MIB)).mib == LARGEST_MIB


def test_a_waiting_plugin_offers_nothing() -> None:
    for kind in ("device", None):
        waiting = {"version": 1, "accounting": {"kind": kind, "advertised_mib": 0}, "resources": []}
        assert read_offer(json.dumps(waiting).encode()) == Offer(Accounting.NOTHING)


@pytest.mark.parametrize(
    "unusable",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"version": 2}',
        document(kind="tokens"),
        document(kind=["capacity"]),
        document(kind="device", resource=None),
        document(advertised_mib=-1),
        document(advertised_mib=LARGEST_MIB + 1),
        document(advertised_mib=True),
        document(advertised_mib=1.5),
        document(advertised_mib="64"),
        document(advertised_mib=None),
    ],
)
def test_what_is_no_inventory_is_refused(unusable: bytes) -> None:
    with pytest.raises(MalformedError) as error:
        read_offer(unusable)
    assert error.value.error_code == "inventory-malformed"


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_else(found: bytes) -> None:
    with pytest.raises(MalformedError):
        read_offer(found)
