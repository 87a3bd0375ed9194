"""Functions that fetch the collateral of a quote from a service, and a cache of collateral on disk.

collateral = fetch_collateral(quote, INTEL_PCS)
"""

from confcom.collateral.cache import CachedCollateral, CollateralCache
from confcom.collateral.fetch_errors import FetchError
from confcom.collateral.pcs_client import fetch_collateral, fetch_collateral_async
from confcom.collateral.source import AZURE_CACHE, INTEL_PCS, Source

__all__ = [
    "AZURE_CACHE",
    "INTEL_PCS",
    "CachedCollateral",
    "CollateralCache",
    "FetchError",
    "Source",
    "fetch_collateral",
    "fetch_collateral_async",
]
