"""A simulated trust domain (TD), and the simulated TDX module that its TD reports name."""

import hashlib
from dataclasses import fields

from confcom.sgx.td_report import TdAttribute, TdReport10, TdReport15
from confcom.simulation.enclave import XFRM_X87_SSE_AVX

MODULE_VERSION = 1
"""Version of the simulated TDX module: that of TDX 1.5, as in genuine quotes."""
LAUNCH_MODULE_SVN, MODULE_SVN = 2, 3
"""SVN of the TDX module that launched a default TD, and of the module that runs now. The difference is an update that
preserved the TD, so that collateral can advise to launch the TD again without another quote."""
LATE_MICROCODE_SVN = 2
TDX_COMPONENTS = (LAUNCH_MODULE_SVN, 0, LATE_MICROCODE_SVN, *bytes(13))
"""SVNs of the platform's 16 TDX components; TEE_TCB_SVN and collateral must agree on the third."""

MR_SEAM = hashlib.sha384(b"confcom simulated TDX module, version 1").digest()
MR_SIGNER_SEAM = hashlib.sha384(b"confcom simulated TDX module signer").digest()
"""Zeros would mean that Intel signed the module."""
MR_SERVICE_TD = hashlib.sha384(b"confcom simulated service TD").digest()


def _tee_tcb_svn(module_svn: int) -> bytes:
    return bytes((module_svn, MODULE_VERSION, *TDX_COMPONENTS[2:]))


def simulated_td(name: str) -> TdReport15:
    """Return the report of a TD in software, whose MRTD and RTMR0 to RTMR2 depend only on a name.

    Nothing is isolated or measured. RTMR3 is zeros, as before its first use. Of TDATTRIBUTES, SEPT_VE_DISABLE alone is
    set, without which dcap-qvl refuses a TD.
    """
    mr_td, rtmr0, rtmr1, rtmr2 = (
        hashlib.sha384(f"confcom simulated TD, {register}: {name}".encode()).digest()
        for register in ("MRTD", "RTMR0", "RTMR1", "RTMR2")
    )
    return TdReport15(
        tee_tcb_svn=_tee_tcb_svn(LAUNCH_MODULE_SVN),
        mr_seam=MR_SEAM,
        mr_signer_seam=MR_SIGNER_SEAM,
        td_attributes=TdAttribute.SEPT_VE_DISABLE,
        xfam=XFRM_X87_SSE_AVX,
        mr_td=mr_td,
        rtmr0=rtmr0,
        rtmr1=rtmr1,
        rtmr2=rtmr2,
        tee_tcb_svn2=_tee_tcb_svn(MODULE_SVN),
    )


def report_as(version: type[TdReport10], report: TdReport15) -> TdReport10:
    """Return a TD report in another version, without the fields that this version lacks."""
    return version(**{each.name: getattr(report, each.name) for each in fields(version) if hasattr(report, each.name)})
