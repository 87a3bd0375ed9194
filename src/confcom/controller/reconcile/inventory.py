"""Reads what the controller needs of a plugin's `/inventory`. Pure."""

from __future__ import annotations

import json

from confcom.controller.reconcile.facts import Accounting, Offer
from confcom.errors import MalformedError
from confcom.kubernetes.objects import listing, mapping, text

VERSION = 1
"""The version of the document that is understood; fields may be added to it."""
LARGEST_MIB = 1 << 32
"""4 PiB. A larger amount is a mistake, and not EPC; what is written is limited by the settings."""


def read_offer(document: bytes) -> Offer:
    """Parse the document of a plugin, which any container on the node's network could have sent.

    Raises:
        MalformedError: it is not such a document, or has another version.
    """
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise malformed_inventory("it is not JSON") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise malformed_inventory(f"its version is not {VERSION}")
    accounting = mapping(found, "accounting")
    kind, mib = text(accounting, "kind"), accounting.get("advertised_mib")
    if not isinstance(mib, int) or isinstance(mib, bool) or not 0 <= mib <= LARGEST_MIB:
        raise malformed_inventory(f"accounting.advertised_mib is not a whole number from 0 to {LARGEST_MIB}")
    if mib == 0 and not listing(found, "resources"):
        return Offer(Accounting.NOTHING)
    if kind not in {Accounting.DEVICE.value, Accounting.CAPACITY.value}:
        raise malformed_inventory(f"accounting.kind is neither {Accounting.DEVICE} nor {Accounting.CAPACITY}")
    resource = text(accounting, "resource")
    if not resource:
        raise malformed_inventory("accounting.resource names no resource")
    return Offer(Accounting(kind), resource, mib)


def malformed_inventory(why: str) -> MalformedError:
    """Return the error for an answer that is no inventory."""
    return MalformedError("the plugin's inventory cannot be used", error_code="inventory-malformed", why=why)
