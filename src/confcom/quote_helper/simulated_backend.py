"""The simulated platform as a backend. Imported late: each kind of backend needs libraries of its own."""

from __future__ import annotations

import logging
from pathlib import Path

from confcom.quote_helper.helper import Backend
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import exposure
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import SimulatedEnclave

_logger = logging.getLogger(__name__)


def open_simulated(state_dir: Path) -> Backend:
    """Open the simulated platform, or make it, and say how its quotes are verified.

    Raises:
        UnavailableError: it can neither be read nor made.
        MalformedError: what is there is damaged.
    """
    provider = SimulatedQuoteProvider.open_or_create(state_dir)
    _logger.info(
        "the platform is simulated: root sha256 %s, kept in %s; to verify its quotes: "
        "confcom simulation export --state-dir %s OUT && "
        "confcom verify QUOTE --root OUT/root.pem --collateral OUT/collateral --allow-simulated "
        "--mrenclave EXPECTED --report-data EXPECTED",
        provider.root_fingerprint,
        state_dir,
        state_dir,
    )
    warning = exposure(state_dir)
    if warning is not None:
        _logger.warning("%s", warning)
    enclave = SimulatedEnclave.from_name("confcom quote helper self-test")
    return Backend(provider, lambda target_info: enclave.create_report(target_info, bytes(REPORT_DATA_SIZE)))
