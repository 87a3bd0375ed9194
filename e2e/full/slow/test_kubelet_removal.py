"""Removal of a plugin's resource by a real kubelet, 5 minutes after the plugin ended."""

import pytest

from testkit.kubelet_contract.cases import RemovalContract

SLOW_SECONDS = 500
"""Limit for the 5 minutes, with the time before and after."""


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
class TestRemoval(RemovalContract):
    """Contract of a kubelet whose plugin stays away."""
