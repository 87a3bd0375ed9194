"""For tests of a service that verifies quotes: good and bad quotes, with their collateral, made in this process.

pytest finds the fixture `attestation` by itself:

def test_an_outdated_platform_is_refused(attestation):
    evidence = attestation.quote(b"challenge", tcb="OutOfDate")
    assert not verify(evidence.quote, attestation.policy(b"challenge"), evidence.collateral, evidence.root).ok
"""

from confcom.sgx.report import report_data
from confcom.simulation.enclave import SimulatedEnclave
from confcom.testing.attestation import Attestation, Evidence

__all__ = ["Attestation", "Evidence", "SimulatedEnclave", "report_data"]
