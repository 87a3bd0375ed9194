from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from confcom.quote_provider.state_directory import open_platform
from confcom.simulation.enclave import SimulatedEnclave
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import Verdict
from confcom.verify.verifier import verify_quote


class QuoteVerifier:
    """A relying party that trusts one simulated platform, and that verifies all quotes at one fixed time."""

    def __init__(self, state_dir: Path) -> None:
        self._now = datetime.now(UTC)
        platform = open_platform(state_dir)
        self._root = TrustedRoot.load(platform.pki.root.pem)
        self._collateral = platform.collateral(self._now)

    def verify(self, quote: bytes, enclave: SimulatedEnclave, report_data: bytes) -> Verdict:
        policy = SgxPolicy(
            mr_enclave=enclave.mr_enclave, mr_signer=enclave.mr_signer, report_data=report_data, allow_simulated=True
        )
        return verify_quote(quote, self._root, self._collateral, policy, self._now)
