"""Good and bad quotes with collateral, made in this process, for tests of a service that verifies quotes.

pytest finds the fixture `attestation` automatically:

def test_an_outdated_platform_is_refused(attestation):
    evidence = attestation.quote(b"challenge", tcb="OutOfDate")
    assert not verify(evidence.quote, attestation.policy(b"challenge"), evidence.collateral, evidence.root).ok
"""

from confcom.sgx.report import report_data
from confcom.sgx.td_report import TdAttribute
from confcom.sgx.tee_type import TeeType
from confcom.simulation.enclave import SimulatedEnclave
from confcom.testing.attestation import Attestation, Evidence

__all__ = ["Attestation", "Evidence", "SimulatedEnclave", "TdAttribute", "TeeType", "report_data"]
