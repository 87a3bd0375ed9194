"""The lab's platform as one that quotes trust domains (TDs)."""

from confcom.sgx.tee_type import TeeType
from confcom.simulation.td_quoting_enclave import TdQuotingEnclave
from confcom.simulation.trust_domain import SimulatedTd
from confcom.verify import Collateral
from testkit.verify.verify_lab import CHALLENGE, NOW, Evidence, Lab

TD = SimulatedTd.from_name("app")


class TdxLab(Lab):
    """A lab whose evidence is of a TD; its keys, certificates and edits are those of the lab for SGX."""

    @property
    def attestation_key(self):
        return TdQuotingEnclave.load(self.platform.seed, self.platform.pki).attestation_key

    def evidence(self, *, platform=None):
        platform = platform or self.platform
        quote = TdQuotingEnclave.load(platform.seed, platform.pki).quote(TD.report(CHALLENGE))
        collateral = Collateral.from_files(platform.collateral(NOW, tee=TeeType.TDX).to_files())
        return Evidence(quote, platform.pki.root.certificate, collateral)
