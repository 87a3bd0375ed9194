import secrets

import pytest

from testkit.replay.helper import running_helper


@pytest.fixture(scope="session")
def helper():
    """One helper process for all that leaves it as it was."""
    with running_helper() as running:
        yield running


@pytest.fixture
def abstract_name():
    """A name of nobody else's, as long as the real one: what runs beside the tests must not be caught by it."""
    return (b"\0replayed-" + secrets.token_hex(8).encode()).ljust(108, b"\0")
