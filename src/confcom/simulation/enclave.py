"""A software enclave that creates and verifies reports like an enclave in Intel's SDK simulation mode.

On hardware the report key is derived from a secret of the processor. The SDK's simulation library derives the
key from public constants instead (sdk/simulation/tinst/deriv.cpp, t_instructions.cpp). This module derives
the key in the same way, so that enclaves built with the SDK's simulation libraries can be quoted. Because the
keys are public, a matching MAC proves which target a report was made for, but not who made the report.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, unique
from hmac import compare_digest
from typing import Self

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from confcom.errors import ConfcomError
from confcom.sgx.binary import require_length
from confcom.sgx.report import REPORT_DATA_SIZE, AttributeFlag, Report, ReportBody, TargetInfo
from confcom.sgx.simulation_marks import SIMULATION_CPU_SVNS

BASE_REPORT_KEY = bytes.fromhex("ff00") * 8
"""This key replaces the processor's secret (BASE_REPORT_KEY of the SDK's deriv.h)."""

SIMULATION_KEY_ID = BASE_REPORT_KEY + bytes(16)
"""KEYID of every simulated report. A report contains its KEYID, but a quote does not."""

OWNER_EPOCH = b"THISISOWNEREPOCH"
"""This value replaces the platform owner's epoch (SIMU_OWNER_EPOCH_MSR)."""

DEFAULT_CPU_SVN, UPGRADED_CPU_SVN, DOWNGRADED_CPU_SVN = SIMULATION_CPU_SVNS

KEYSELECT_REPORT = 3
"""KEYNAME of the report key (SDM, "KEYREQUEST")."""

_CURRENT = struct.Struct("<H6xQQI16s32s16sH64s32s2x")
_LEGACY = struct.Struct("<H6xQQ16s32s16s32s")

XFRM_X87_SSE_AVX = 0x07
"""XFRM of a simulated enclave: the minimum of features that every 64-bit processor with SGX enables."""

_ENCLAVE_DOMAIN = b"confcom simulated enclave: "
_SIGNER_DOMAIN = b"confcom simulated enclave signer"


@unique
class ReportKeyFormat(Enum):
    """Layouts of the data from which the SDK derives a report key."""

    CURRENT = "current"
    """SDK 2.18.1 and later: 192 bytes, which also bind the target's MISCSELECT, CONFIGSVN and CONFIGID."""
    LEGACY = "legacy"
    """SDK up to 2.18: 120 bytes."""


def derivation_data(key_format: ReportKeyFormat, target: TargetInfo, cpu_svn: bytes, key_id: bytes) -> bytes:
    """Return the data whose CMAC is the report key: 192 bytes, or 120 in the legacy layout.

    `cpu_svn` (16 bytes) and `key_id` (32 bytes) come from the report. The target's attributes are not masked.
    """
    begin, enclave = (KEYSELECT_REPORT, target.flags, target.xfrm), (OWNER_EPOCH, target.mr_enclave, cpu_svn)
    if key_format is ReportKeyFormat.LEGACY:
        return _LEGACY.pack(*begin, *enclave, key_id)
    return _CURRENT.pack(*begin, target.misc_select, *enclave, target.config_svn, target.config_id, key_id)


def report_key(key_format: ReportKeyFormat, target: TargetInfo, cpu_svn: bytes, key_id: bytes) -> bytes:
    """Derive the 16-byte key that authenticates a report for `target`."""
    return report_mac(CMAC(AES(BASE_REPORT_KEY)), derivation_data(key_format, target, cpu_svn, key_id))


def report_mac(keyed: CMAC, body: bytes) -> bytes:
    """Return the AES-128-CMAC of a body. `keyed` stays usable: its set-up with the key costs as much as two MACs."""
    cmac = keyed.copy()
    cmac.update(body)
    return cmac.finalize()


_Macs = tuple[tuple[ReportKeyFormat, CMAC], ...]
"""Pairs of a layout and the CMAC with that layout's report key."""


def _macs(target: TargetInfo, cpu_svn: bytes, key_id: bytes) -> _Macs:
    return tuple((form, CMAC(AES(report_key(form, target, cpu_svn, key_id)))) for form in ReportKeyFormat)


class ReportRejectedError(ConfcomError):
    """An enclave cannot verify a report that is forged, damaged, or made for another target or platform."""


@dataclass(frozen=True, slots=True)
class SimulatedEnclave:
    """A software enclave: an identity, and software versions of the instructions that make and check reports.

    Nothing is isolated or measured: the caller chooses the identity.

    Args:
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        flags: ATTRIBUTES.FLAGS of the report; by default those of an initialised 64-bit enclave without debug.
        xfrm: ATTRIBUTES.XFRM of the report.
        isv_prod_id: 0 to 65,535.
        isv_svn: 0 to 65,535.
    """

    mr_enclave: bytes
    mr_signer: bytes
    flags: int = AttributeFlag.INITTED | AttributeFlag.MODE64BIT
    xfrm: int = XFRM_X87_SSE_AVX
    isv_prod_id: int = 0
    isv_svn: int = 0

    @classmethod
    def from_name(cls, name: str, *, debug: bool = False) -> Self:
        """Create an enclave whose measurement depends only on a name: MRENCLAVE is the name's hash.

        Named enclaves have one MRSIGNER, like those of one vendor. As on hardware, DEBUG does not change MRENCLAVE.
        """
        mr_enclave = hashlib.sha256(_ENCLAVE_DOMAIN + name.encode()).digest()
        enclave = cls(mr_enclave, hashlib.sha256(_SIGNER_DOMAIN).digest())
        return replace(enclave, flags=enclave.flags | AttributeFlag.DEBUG) if debug else enclave

    def target_info(self) -> TargetInfo:
        """Return the target info with which other enclaves make a report for this enclave."""
        return TargetInfo(mr_enclave=self.mr_enclave, flags=self.flags, xfrm=self.xfrm)

    def report_body(self, report_data: bytes, *, cpu_svn: bytes = DEFAULT_CPU_SVN) -> ReportBody:
        """Return a report body with this enclave's identity and the caller's 64 bytes of report data."""
        require_length(report_data, REPORT_DATA_SIZE, "report data")
        return ReportBody(
            cpu_svn=cpu_svn,
            flags=self.flags,
            xfrm=self.xfrm,
            mr_enclave=self.mr_enclave,
            mr_signer=self.mr_signer,
            isv_prod_id=self.isv_prod_id,
            isv_svn=self.isv_svn,
            report_data=report_data,
        )

    def create_report(
        self,
        target_info: TargetInfo,
        report_data: bytes,
        *,
        cpu_svn: bytes = DEFAULT_CPU_SVN,
        key_format: ReportKeyFormat = ReportKeyFormat.CURRENT,
    ) -> Report:
        """Create a report, like EREPORT, that only the enclave with this target info can verify.

        Args:
            target_info: target info of the enclave that will verify the report.
            report_data: 64 bytes; `confcom.testing.report_data` extends a shorter value.
            cpu_svn: one of the three CPUSVNs of the SDK's simulation mode (16 bytes).
            key_format: the layout of the data that gives the report key; the quoting enclave accepts both.

        Raises:
            MalformedError: the report data is not 64 bytes long.
        """
        return sign_report(self.report_body(report_data, cpu_svn=cpu_svn), target_info, key_format=key_format)


@dataclass(frozen=True, slots=True)
class ReportChecker:
    """Verifies many reports for one enclave; all have one KEYID, so the report keys are derived once."""

    target: TargetInfo
    macs: Mapping[bytes, _Macs]
    """MACs, keyed by the CPUSVN of the platform that made the report."""

    @classmethod
    def of(cls, target: TargetInfo) -> Self:
        return cls(target, {svn: _macs(target, svn, SIMULATION_KEY_ID) for svn in SIMULATION_CPU_SVNS})

    def check(self, report: Report) -> ReportKeyFormat:
        """Verify a report; return the report key's layout, which a report in reply needs."""
        macs = self.macs.get(report.cpu_svn)
        if macs is None:
            raise ReportRejectedError(
                f"the report comes from a platform with CPUSVN {report.cpu_svn.hex()}",
                error_code="foreign-cpu-svn",
                why="a simulated enclave only checks reports of Intel's SDK simulation mode, which has three CPUSVNs",
                remedy="quote enclaves on SGX hardware with a hardware provider; build with SGX_MODE=SIM to simulate",
            )
        if report.key_id != SIMULATION_KEY_ID:
            macs = _macs(self.target, report.cpu_svn, report.key_id)
        for key_format, mac in macs:
            if compare_digest(report_mac(mac, report.encoded_body), report.mac):
                return key_format
        raise ReportRejectedError(
            "the report's MAC does not fit",
            error_code="report-mac-mismatch",
            why="it was changed, or made for another enclave's target info",
            remedy="ask for the target info again and make a new report for it",
        )


def sign_report(
    body: ReportBody, target_info: TargetInfo, *, key_format: ReportKeyFormat = ReportKeyFormat.CURRENT
) -> Report:
    """Append KEYID and MAC to a report body, as the SDK's simulated EREPORT does."""
    key = report_key(key_format, target_info, body.cpu_svn, SIMULATION_KEY_ID)
    encoded = body.encode()
    return Report(encoded, SIMULATION_KEY_ID, report_mac(CMAC(AES(key)), encoded))
