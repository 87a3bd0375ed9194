from datetime import UTC, datetime

import pytest

from confcom.simulation.platform import SimulatedPlatform


@pytest.fixture(scope="session")
def platform():
    return SimulatedPlatform.create(bytes(range(32)), datetime(2026, 11, 24, 12, 30, 15, tzinfo=UTC))
