"""A simulated trust domain (TD), and the simulated TDX module that its TD reports name."""

import hashlib
from dataclasses import dataclass, fields
from typing import Self

from confcom.sgx.td_report import TD_MEASUREMENT_SIZE, TdAttribute, TdReport10, TdReport15
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

_ZEROS = bytes(TD_MEASUREMENT_SIZE)


def _tee_tcb_svn(module_svn: int) -> bytes:
    return bytes((module_svn, MODULE_VERSION, *TDX_COMPONENTS[2:]))


@dataclass(frozen=True, slots=True)
class SimulatedTd:
    """A trust domain (TD) in software: the measurements and settings that its TD reports have.

    Nothing is isolated or measured: the caller chooses each field.

    Args:
        mr_td: MRTD, 48 bytes, as all other measurements.
        rtmr0: RTMR0; rtmr1 to rtmr3 are the registers after it.
        rtmr1: RTMR1.
        rtmr2: RTMR2.
        rtmr3: RTMR3.
        td_attributes: TDATTRIBUTES; by default SEPT_VE_DISABLE alone, without which dcap-qvl refuses a TD.
        xfam: XFAM.
        mr_config_id: MRCONFIGID.
        mr_owner: MROWNER.
        mr_owner_config: MROWNERCONFIG.
        mr_service_td: MRSERVICETD; zeros mean that no service TD is bound.
        mr_seam: MRSEAM, the measurement of the TDX module.
        mr_signer_seam: MRSIGNERSEAM, the signer of the TDX module.
        seam_attributes: SEAMATTRIBUTES of the TDX module.
        tee_tcb_svn: TEE_TCB_SVN, 16 SVNs, of the TDX module that launched the TD.
        tee_tcb_svn2: TEE_TCB_SVN2, 16 SVNs, of the TDX module that runs now; by default one SVN higher.
    """

    mr_td: bytes
    rtmr0: bytes = _ZEROS
    rtmr1: bytes = _ZEROS
    rtmr2: bytes = _ZEROS
    rtmr3: bytes = _ZEROS
    td_attributes: int = TdAttribute.SEPT_VE_DISABLE
    xfam: int = XFRM_X87_SSE_AVX
    mr_config_id: bytes = _ZEROS
    mr_owner: bytes = _ZEROS
    mr_owner_config: bytes = _ZEROS
    mr_service_td: bytes = _ZEROS
    mr_seam: bytes = MR_SEAM
    mr_signer_seam: bytes = MR_SIGNER_SEAM
    seam_attributes: int = 0
    tee_tcb_svn: bytes = _tee_tcb_svn(LAUNCH_MODULE_SVN)
    tee_tcb_svn2: bytes = _tee_tcb_svn(MODULE_SVN)

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Create a TD whose MRTD and RTMR0 to RTMR2 depend only on a name; RTMR3 is zeros, as before its first use."""
        mr_td, rtmr0, rtmr1, rtmr2 = (
            hashlib.sha384(f"confcom simulated TD, {register}: {name}".encode()).digest()
            for register in ("MRTD", "RTMR0", "RTMR1", "RTMR2")
        )
        return cls(mr_td, rtmr0, rtmr1, rtmr2)

    def report(self, report_data: bytes, version: type[TdReport10] = TdReport15) -> TdReport10:
        """Return a TD report of this version, with the caller's 64 bytes of report data."""
        known = {each.name for each in fields(version)}
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name in known}
        return version(report_data=report_data, **values)
