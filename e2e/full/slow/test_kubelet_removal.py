"""What a real kubelet does 5 minutes after a plugin has gone."""

import pytest

from testkit.kubelet_contract.cases import RemovalContract

SLOW_SECONDS = 500
"""For the 5 minutes and what comes before and after."""


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
class TestRemoval(RemovalContract):
    """A plugin that stays away."""
