import pytest

from confcom.collateral import pcs_client
from testkit.collateral_caches import Clock, settle


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(pcs_client, "RETRY_SECONDS", 0.01)


@pytest.fixture
def clock():
    yield Clock()
    settle()
