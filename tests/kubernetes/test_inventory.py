import json

import pytest

from confcom.errors import MalformedError
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import LARGEST_MIB, EpcOffer, Inventory
from testkit.expected_errors import raises


def document(**accounting):
    fields = {"kind": "capacity", "resource": "example.com/epc", "advertised_mib": 64} | accounting
    return json.dumps({"version": 1, "accounting": fields, "resources": [{"name": "x"}]}).encode()


@pytest.mark.parametrize(
    ("accounting", "offer"),
    [
        ({}, EpcOffer(AccountingKind.CAPACITY, "example.com/epc", None, 64)),
        ({"kind": "device"}, EpcOffer(AccountingKind.DEVICE, "example.com/epc", None, 64)),
        (
            {"advertised_mib": LARGEST_MIB, "choice": "set", "kept_mib": 3, "reason": "why"},
            EpcOffer(AccountingKind.CAPACITY, "example.com/epc", "set", LARGEST_MIB, kept_mib=3, reason="why"),
        ),
        ({"kind": None, "resource": None, "advertised_mib": 0}, EpcOffer(None, None, None)),
    ],
)
def test_an_offer_is_read(accounting, offer):
    assert Inventory.from_json(document(**accounting)).accounting == offer


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
        document(kind=None),
        document(kind="device", resource=None),
        document(advertised_mib=-1),
        document(advertised_mib=LARGEST_MIB + 1),
        document(advertised_mib=True),
        document(advertised_mib="64"),
        document(kept_mib=None),
        b'{"version": 1, "accounting": {"kind": "capacity", "resource": "example.com/epc"}}',
    ],
)
def test_what_is_no_inventory_is_refused(unusable):
    with raises("inventory-malformed", MalformedError):
        Inventory.from_json(unusable)
