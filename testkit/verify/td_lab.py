"""Evidence of TDX: under keys of the lab for SGX, with any TD report; or by the simulated TD quoting enclave."""

from confcom.sgx.td_report import TdAttribute, TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType
from confcom.simulation.quoting_enclave import DEFAULT_TD_QE_IDENTITY, certify_attestation_key
from confcom.simulation.td_quoting_enclave import quote_td
from confcom.simulation.trust_domain import SimulatedTd
from confcom.verify import Collateral, TdxPolicy
from testkit.verify.verify_lab import CHALLENGE, NOW, Evidence, Lab

SVNS = bytes([5, 1, 2, *bytes(13)])
"""TEE_TCB_SVN of the lab's TDX module: SVN 5 of version 1."""
MODULE = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
MEASURED = {"mr_td": b"t" * 48} | {f"rtmr{number}": bytes([number]) * 48 for number in range(4)}
SEPT_VE_DISABLE = TdAttribute.SEPT_VE_DISABLE
POLICY = TdxPolicy(**MEASURED, report_data=CHALLENGE, allow_simulated=True)
BODIES = {"TD 1.0": (4, TdReport10), "TD 1.5": (5, TdReport15), "extended TD 1.5": (5, TdReport15Ex)}


def td_body(codec=TdReport15, **registers):
    if issubclass(codec, TdReport15):
        registers = {"tee_tcb_svn2": SVNS, **registers}
    known = {"tee_tcb_svn": SVNS, "td_attributes": SEPT_VE_DISABLE, "report_data": CHALLENGE, **MEASURED}
    return codec(**(known | registers))


def td_evidence(lab, body=None, version=5, *, edit_info=None, edit_qe=None, platform=None):
    """A good quote of a TD with its collateral, or one with another body or other collateral."""

    def info_of_tdx(info):
        identity = MODULE | {"id": "TDX_01", "tcbLevels": [module_level(5)]}
        info.update(id="TDX", tdxModule=MODULE, tdxModuleIdentities=[identity])
        for level in info["tcbLevels"]:
            level["tcb"]["tdxtcbcomponents"] = [{"svn": svn} for svn in (0, 0, *SVNS[2:])]
        if edit_info:
            edit_info(info)

    def identity_of_tdx(identity):
        identity["id"] = "TD_QE"
        if edit_qe:
            edit_qe(identity)

    platform = platform or lab.platform
    key, evidence = platform.pki.tcb_signer.private_key, lab.evidence(platform=platform)
    evidence = lab.edit_json(evidence, "tcb_info", info_of_tdx, key=key)
    evidence = lab.edit_json(evidence, "qe_identity", identity_of_tdx, key=key)
    return lab.td_quote(evidence, version, body or td_body())


def module_level(isv_svn, status="UpToDate", date="2026-11-01T00:00:00Z", advisories=()):
    return {"tcb": {"isvsvn": isv_svn}, "tcbDate": date, "tcbStatus": status, "advisoryIDs": list(advisories)}


TD = SimulatedTd.from_name("app")


class TdxLab(Lab):
    """A lab whose evidence is of a TD; its keys, certificates and edits are those of the lab for SGX."""

    @property
    def attestation_key(self):
        return certify_attestation_key(self.platform.seed, self.platform.pki, DEFAULT_TD_QE_IDENTITY)[0]

    def evidence(self, *, platform=None):
        platform = platform or self.platform
        quote = quote_td(platform.seed, platform.pki, TD.report(CHALLENGE))
        collateral = Collateral.from_files(platform.collateral(NOW, tee=TeeType.TDX).to_files())
        return Evidence(quote, platform.pki.root.certificate, collateral)
