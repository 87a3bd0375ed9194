import pytest

from testkit.helper_process import running_helper


@pytest.fixture(scope="session")
def helper():
    """One helper process for all tests that leave the helper unchanged."""
    with running_helper() as running:
        yield running
