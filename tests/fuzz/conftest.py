import pytest

from fuzz.session_target import SessionTarget


@pytest.fixture(scope="session")
def target():
    with SessionTarget() as running:
        yield running
