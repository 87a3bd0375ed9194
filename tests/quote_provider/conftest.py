from datetime import UTC, datetime

import pytest


@pytest.fixture
def now():
    return datetime(2026, 11, 24, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def clock(now):
    return lambda: now
