"""Removal of a plugin's resource by a real kubelet, 5 minutes after the plugin ended."""

import pytest

from testkit.kubelet_contract.cases import RemovalContract

SLOW_SECONDS = 500
"""Seconds for the 5 minutes, and for the steps before and after them."""


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
class TestRemoval(RemovalContract):
    """The contract of a kubelet, for a plugin that stays away."""
