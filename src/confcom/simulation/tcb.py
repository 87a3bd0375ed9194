"""The simulated platform's TCB: the one set of numbers that PCK certificate, quote and collateral must agree on."""

from __future__ import annotations

TCB_COMPONENTS = (2,) * 16
"""SVN of each of the 16 components. Not the lowest, so that collateral can name a level below that is out of date."""

PCE_SVN = 2
PCE_ID = bytes(2)
"""The only PCE there is (Intel's PCK certificates all say 0000)."""
