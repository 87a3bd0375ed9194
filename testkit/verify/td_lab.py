"""Evidence of the simulated TD quoting enclave, with any TD report."""

from dataclasses import replace

from confcom.sgx.td_report import TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType
from confcom.simulation.quoting_enclave import DEFAULT_TD_QE_IDENTITY, certify_attestation_key
from confcom.simulation.td_quoting_enclave import quote_td
from confcom.simulation.trust_domain import report_as, simulated_td
from confcom.verify import TdxPolicy
from testkit.verify.verify_lab import CHALLENGE, Lab

TD = simulated_td("app")
MEASURED = {name: getattr(TD, name) for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}
POLICY = TdxPolicy(**MEASURED, report_data=CHALLENGE, allow_simulated=True)
BODIES = {"1.0": TdReport10, "1.5": TdReport15, "1.5ex": TdReport15Ex}


def module_level(isv_svn, status="UpToDate", date="2026-11-01T00:00:00Z", advisories=()):
    return {"tcb": {"isvsvn": isv_svn}, "tcbDate": date, "tcbStatus": status, "advisoryIDs": list(advisories)}


class TdxLab(Lab):
    """A lab whose evidence is of a TD; its certificates and edits are those of the lab for SGX."""

    tee = TeeType.TDX
    policy = POLICY

    @property
    def attestation_key(self):
        return certify_attestation_key(self.platform.seed, self.platform.pki, DEFAULT_TD_QE_IDENTITY)[0]

    def quote(self, report_data=CHALLENGE, codec=TdReport15, *, platform=None, **registers):
        platform, report = platform or self.platform, report_as(codec, replace(TD, report_data=report_data))
        return quote_td(platform.seed, platform.pki, replace(report, **registers))
