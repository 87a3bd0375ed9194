"""Expiry metrics when a node's date is set back, as when it first reaches its time server."""

from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry

from confcom.quote_helper.telemetry.observations import ExpiryMetrics
from confcom.quote_provider.base import Expiring

EXPIRY = "confcom_quote_helper_expiry_timestamp_seconds"


class Dated:
    """Its collateral always ends in an hour."""

    def expiries(self, now):
        return {Expiring.COLLATERAL: now + timedelta(hours=1)}


def test_a_date_that_is_set_back_does_not_stop_the_expiry_metrics():
    wrong = datetime(2031, 1, 1, tzinfo=UTC).timestamp()
    right = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    dates = iter([wrong, right])
    registry = CollectorRegistry()
    metrics = ExpiryMetrics(registry, lambda: next(dates))
    metrics.watch(Dated())
    metrics.tick()
    metrics.tick()
    assert registry.get_sample_value(EXPIRY, {"what": "collateral"}) == right + 3600
