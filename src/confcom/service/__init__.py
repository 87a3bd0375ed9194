"""One object that a web service awaits: it verifies quotes in processes of its own, and fetches their collateral.

async with QuoteVerifier(policy, INTEL_PCS, directory="collateral-cache") as verifier:
    verdict = await verifier.verify(quote, report_data=expected)
"""

from confcom.service.quote_verifier import QuoteVerifier
from confcom.service.workers import BusyError, WorkerError

__all__ = ["BusyError", "QuoteVerifier", "WorkerError"]
