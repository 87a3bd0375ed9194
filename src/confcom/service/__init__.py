"""One object that a web service awaits. It verifies quotes in processes of its own, and fetches their collateral.

async with QuoteVerifier(policy, INTEL_PCS, directory="collateral-cache") as verifier:
    verdict = await verifier.verify(quote, report_data=expected)
"""

from confcom.errors import UnavailableError
from confcom.service.quote_verifier import BusyError, QuoteVerifier
from confcom.service.workers import WorkerError

__all__ = ["BusyError", "QuoteVerifier", "UnavailableError", "WorkerError"]
