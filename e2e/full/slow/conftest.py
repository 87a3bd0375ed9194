"""What the cases under load share."""

import pytest

from e2e.load.outcome import Trust


@pytest.fixture
def trust(add_on, tmp_path):
    """The cluster's root and collateral, as a relying party got them when the case began."""
    now = add_on.export(tmp_path / "trust")
    return Trust(tmp_path / "trust", now)
