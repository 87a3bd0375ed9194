"""The simulated platform's TCB. PCK certificate, quote and collateral must agree on these numbers."""

from __future__ import annotations

TCB_COMPONENTS = (2,) * 16
"""SVN of each of the 16 components. Not the minimum, so that collateral can have a lower level that is out of date."""

PCE_SVN = 2
PCE_ID = bytes(2)
"""Id of the only PCE (Intel's PCK certificates all say 0000)."""
