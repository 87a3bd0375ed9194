"""Parsing and encoding of TD reports: the bodies of TDX quotes, with the measurements of a trust domain (TD).

Layouts: sgx_report2_body_t, its versions 1.5 and 1.5ex, in Intel's sgx_quote_4.h and sgx_quote_5.h. Each longer body
begins with the shorter one. All integers are little-endian. docs/reference/quote-format.md says what each field is.
"""

from dataclasses import dataclass, fields
from enum import IntFlag

from confcom.sgx.binary import Layout, Structure

TD_MEASUREMENT_SIZE = 48
"""Bytes of MRTD, of each RTMR and of the other measurements, which are SHA-384 digests."""
SEAM_ATTRIBUTES_SIZE = 8
TUD_BITS = 0xFF
"""TDATTRIBUTES' first byte, "TD under debug": a TD with any of these bits protects nothing from its host."""
INTEL_TD_QE_MRSIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
"""MRSIGNER of Intel's TD quoting enclave, as in Intel's QE identity TD_QE."""


class TdAttribute(IntFlag):
    """Bits of TDATTRIBUTES (Intel TDX Module ABI Specification, 348551, "TD_ATTRIBUTES")."""

    DEBUG = 1 << 0
    HGS_PLUS_PROF = 1 << 4
    PERF_PROF = 1 << 5
    PMT_PROF = 1 << 6
    ICSSD = 1 << 16
    SERVTD_EXT = 1 << 17
    LASS = 1 << 27
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    TPA = 1 << 62
    PERFMON = 1 << 63


@dataclass(frozen=True, slots=True)
class TdReport10(Structure):
    """The TD report of TDX 1.0, 584 bytes. Measurements are SHA-384, 48 bytes."""

    tee_tcb_svn: bytes
    """16 SVNs of the TDX module: byte 1 is the module's version, byte 0 its SVN within this version."""
    mr_seam: bytes = bytes(48)
    mr_signer_seam: bytes = bytes(48)
    """The signer of the TDX module; zeros mean Intel."""
    seam_attributes: int = 0
    td_attributes: int = 0
    xfam: int = 0
    mr_td: bytes = bytes(48)
    """The measurement of what the host put into the TD at its creation, usually the virtual firmware."""
    mr_config_id: bytes = bytes(48)
    mr_owner: bytes = bytes(48)
    mr_owner_config: bytes = bytes(48)
    rtmr0: bytes = bytes(48)
    """The first of four registers that software in the TD extends."""
    rtmr1: bytes = bytes(48)
    rtmr2: bytes = bytes(48)
    rtmr3: bytes = bytes(48)
    report_data: bytes = bytes(64)

    @property
    def debug(self) -> bool:
        """Whether the TD is debugged or profiled (a bit of TUD), so that its host can look into it."""
        return bool(self.td_attributes & TUD_BITS)


@dataclass(frozen=True, slots=True)
class TdReport15(TdReport10):
    """The TD report of TDX 1.5, 648 bytes."""

    tee_tcb_svn2: bytes = bytes(16)
    """SVNs of the TDX module that runs now. `tee_tcb_svn` has those of the module that launched the TD."""
    mr_service_td: bytes = bytes(48)
    """The hash of the service TDs that are bound to the TD, such as a migration TD; zeros if there is none."""


@dataclass(frozen=True, slots=True)
class TdReport15Ex(TdReport15):
    """The extended TD report of TDX 1.5, 885 bytes. The fields of service TDs are zero without SERVTD_EXT."""

    vmid: int = 0
    td_id: bytes = bytes(32)
    dev_info: bytes = bytes(48)
    init_service_td_hash: bytes = bytes(48)
    init_service_td_attributes: int = 0
    init_cpu_svn: bytes = bytes(16)
    init_tee_tcb_svn: bytes = bytes(16)
    init_tee_fmspc: bytes = bytes(12)
    cur_service_td_hash: bytes = bytes(48)
    cur_service_td_attributes: int = 0


_CODES_10 = f"16s 48s 48s Q Q Q {'48s ' * 8}64s"
_CODES_15 = f"{_CODES_10} 16s 48s"
_CODES_15_EX = f"{_CODES_15} B 32s 48s 48s Q 16s 16s 12s 48s Q"
TdReport10.layout = Layout("a TD report 1.0", fields(TdReport10), _CODES_10)
TdReport15.layout = Layout("a TD report 1.5", fields(TdReport15), _CODES_15)
TdReport15Ex.layout = Layout("an extended TD report 1.5", fields(TdReport15Ex), _CODES_15_EX)
