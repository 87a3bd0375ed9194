from collections.abc import Callable
from datetime import UTC, datetime

import pytest


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 24, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def clock(now: datetime) -> Callable[[], datetime]:
    return lambda: now


def seed_bytes(size: int) -> bytes:
    return bytes(range(size))


@pytest.fixture
def random_bytes() -> Callable[[int], bytes]:
    return seed_bytes
