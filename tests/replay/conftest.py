import pytest

from testkit.helper_process import running_helper


@pytest.fixture(scope="session")
def helper():
    """One helper process shared by all tests that do not change its state."""
    with running_helper() as running:
        yield running
