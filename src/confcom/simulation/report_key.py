"""Report keys and report MACs as in the simulation mode of Intel's SDK.

On hardware the report key is derived from a secret of the processor. The SDK's simulation library derives it from
public constants instead (sdk/simulation/tinst/deriv.cpp, t_instructions.cpp). This module derives it in exactly the
same way, so that enclaves built with the SDK's simulation libraries can be quoted. Because the keys are public, a
matching MAC proves which target a report was made for, but not who made it.
"""

from __future__ import annotations

import struct
from enum import Enum, unique

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from confcom.sgx.marks import SIMULATION_CPU_SVNS
from confcom.sgx.report import TargetInfo

BASE_REPORT_KEY = bytes.fromhex("ff00") * 8
"""Replaces the processor's secret (BASE_REPORT_KEY of the SDK's deriv.h)."""

SIMULATION_KEY_ID = BASE_REPORT_KEY + bytes(16)
"""KEYID of every simulated report. It is part of a report, but not of a quote."""

OWNER_EPOCH = b"THISISOWNEREPOCH"
"""Replaces the platform owner's epoch (SIMU_OWNER_EPOCH_MSR)."""

DEFAULT_CPU_SVN, UPGRADED_CPU_SVN, DOWNGRADED_CPU_SVN = SIMULATION_CPU_SVNS

KEYSELECT_REPORT = 3
"""KEYNAME of the report key (SDM, "KEYREQUEST")."""

_CURRENT = struct.Struct("<H6xQQI16s32s16sH64s32s2x")
_LEGACY = struct.Struct("<H6xQQ16s32s16s32s")


@unique
class ReportKeyFormat(Enum):
    """Layouts of the data from which the SDK derives a report key."""

    CURRENT = "current"
    """SDK 2.18.1 and later, 192 bytes: also binds MISCSELECT, CONFIGSVN and CONFIGID of the target."""
    LEGACY = "legacy"
    """SDK up to 2.18, 120 bytes."""


def derivation_data(key_format: ReportKeyFormat, target: TargetInfo, cpu_svn: bytes, key_id: bytes) -> bytes:
    """Return the data whose CMAC is the report key: 192 bytes, or 120 in the legacy layout.

    `cpu_svn` (16 bytes) and `key_id` (32) are the report's. The target's attributes are not masked.
    """
    if key_format is ReportKeyFormat.LEGACY:
        return _LEGACY.pack(
            KEYSELECT_REPORT, target.flags, target.xfrm, OWNER_EPOCH, target.mr_enclave, cpu_svn, key_id
        )
    return _CURRENT.pack(
        KEYSELECT_REPORT,
        target.flags,
        target.xfrm,
        target.misc_select,
        OWNER_EPOCH,
        target.mr_enclave,
        cpu_svn,
        target.config_svn,
        target.config_id,
        key_id,
    )


def report_key(key_format: ReportKeyFormat, target: TargetInfo, cpu_svn: bytes, key_id: bytes) -> bytes:
    """Derive the 16-byte key that authenticates a report for `target`."""
    return ReportMac(BASE_REPORT_KEY)(derivation_data(key_format, target, cpu_svn, key_id))


class ReportMac:
    """Computes MACs (AES-128-CMAC) with one key of 16 bytes: setting up the cipher takes twice as long as one MAC."""

    __slots__ = ("_cmac",)

    def __init__(self, key: bytes) -> None:
        self._cmac = CMAC(AES(key))

    def __call__(self, body: bytes) -> bytes:
        """Return the MAC, 16 bytes."""
        cmac = self._cmac.copy()
        cmac.update(body)
        return cmac.finalize()
