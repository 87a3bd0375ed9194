import pytest

from testkit.helper_process import running_helper


@pytest.fixture(scope="session")
def helper():
    """One helper process for all that leaves it as it was."""
    with running_helper() as running:
        yield running
