"""A source with a good set of collateral, and a cache that asks this source."""

import pytest

from confcom.collateral import pcs_client
from testkit.collateral_caches import EVIDENCE, Clock, cache_of, settle
from testkit.collateral_service import answers_of, serving


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(pcs_client, "RETRY_SECONDS", 0.01)


@pytest.fixture
def clock():
    yield Clock()
    settle()


@pytest.fixture
def service():
    with serving(answers_of(EVIDENCE.collateral)) as (served, _):
        yield served


@pytest.fixture
def cache(tmp_path, service, clock):
    return cache_of(tmp_path, service.url, clock)
