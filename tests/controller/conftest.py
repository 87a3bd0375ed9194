import pytest

from confcom.controller import api_server as limits
from testkit.controller import ApiServer


@pytest.fixture(autouse=True)
def no_gathering(monkeypatch):
    monkeypatch.setattr(limits, "GATHER_SECONDS", 0.0)


@pytest.fixture
async def server():
    async with ApiServer().serving() as found:
        yield found


@pytest.fixture
async def connection(server):
    found = server.connection()
    yield found
    await found.client.aclose()
