"""Quotes of real processors, each with its collateral, at a time at which the collateral is valid."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from confcom.verify import read_collateral
from confcom.verify.trust import intel_root
from testkit.verify.verify_lab import Evidence

VECTORS = Path(__file__).parents[2] / "tests" / "vectors" / "genuine-quotes"
TIMES = {
    "sgx_quote": datetime(2025, 7, 1, tzinfo=UTC),
    "tdx_quote": datetime(2025, 7, 1, tzinfo=UTC),
    "tdx_quote_outdated": datetime(2026, 3, 1, tzinfo=UTC),
    "tdx_quote_td15ex": datetime(2026, 10, 20, tzinfo=UTC),
}
TD_QUOTES = [name for name in TIMES if name != "sgx_quote"]


@cache
def genuine(name):
    collateral = read_collateral(VECTORS / f"{name}_collateral.json")
    return Evidence((VECTORS / name).read_bytes(), intel_root().certificate, collateral, TIMES[name])
