"""REPORT, its body, TARGETINFO, and the qe_report_info that goes around a quote.

Layouts: Intel SDM vol. 3D, "REPORT" and "TARGETINFO"; Intel's sgx_report.h and sgx_quote.h.
All integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Self

from confcom.sgx.binary import require_length

REPORT_BODY_SIZE = 384
REPORT_SIZE = 432
TARGET_INFO_SIZE = 512
QE_REPORT_INFO_SIZE = 960
REPORT_DATA_SIZE = 64
NONCE_SIZE = 16

_BODY = struct.Struct("<16sI12s16sQQ32s32s32s32s64sHHH42s16s64s")
_TARGET_INFO = struct.Struct("<32sQQ2sHI8s64s384s")


class AttributeFlag(IntFlag):
    """SECS.ATTRIBUTES.FLAGS bits that quoting cares about (SDM, "ATTRIBUTES")."""

    INITTED = 0x01
    DEBUG = 0x02
    MODE64BIT = 0x04
    PROVISION_KEY = 0x10
    EINITTOKEN_KEY = 0x20
    CET = 0x40
    KSS = 0x80


@dataclass(frozen=True, slots=True)
class ReportBody:
    """The 384 bytes that a report's MAC and a quote's signature cover.

    Reserved fields are kept: a quote carries the body byte for byte, whatever hardware put there.
    """

    cpu_svn: bytes
    misc_select: int
    reserved1: bytes
    isv_ext_prod_id: bytes
    flags: int
    xfrm: int
    mr_enclave: bytes
    reserved2: bytes
    mr_signer: bytes
    reserved3: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    reserved4: bytes
    isv_family_id: bytes
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one report body.

        Raises:
            MalformedError: not 384 bytes.
        """
        require_length(data, REPORT_BODY_SIZE, "an SGX report body")
        return cls(*_BODY.unpack(data))

    def encode(self) -> bytes:
        """The 384 bytes again, identical to what was parsed."""
        return _BODY.pack(*(getattr(self, name) for name in self.__slots__))

    @property
    def debug(self) -> bool:
        """Whether the enclave was launched with DEBUG: its memory is readable from outside."""
        return bool(self.flags & AttributeFlag.DEBUG)


@dataclass(frozen=True, slots=True)
class Report:
    """What EREPORT returns: a body, and a MAC that only the target enclave can check."""

    body: ReportBody
    key_id: bytes
    mac: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one report.

        Raises:
            MalformedError: not 432 bytes.
        """
        require_length(data, REPORT_SIZE, "an SGX report")
        body = ReportBody.parse(data[:REPORT_BODY_SIZE])
        return cls(body=body, key_id=data[REPORT_BODY_SIZE:416], mac=data[416:])

    def encode(self) -> bytes:
        """The 432 bytes again."""
        return self.body.encode() + self.key_id + self.mac


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """Whom a report is for: the identity that the report key is derived from."""

    mr_enclave: bytes
    flags: int
    xfrm: int
    reserved1: bytes = bytes(2)
    config_svn: int = 0
    misc_select: int = 0
    reserved2: bytes = bytes(8)
    config_id: bytes = bytes(64)
    reserved3: bytes = bytes(384)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one TARGETINFO.

        Raises:
            MalformedError: not 512 bytes.
        """
        require_length(data, TARGET_INFO_SIZE, "SGX target info")
        return cls(*_TARGET_INFO.unpack(data))

    def encode(self) -> bytes:
        """The 512 bytes again."""
        return _TARGET_INFO.pack(*(getattr(self, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class QeReportInfo:
    """sgx_qe_report_info_t: a client's nonce and target going in, the QE's own report coming out."""

    nonce: bytes
    app_enclave_target_info: TargetInfo
    qe_report: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one qe_report_info; the report in it may still be all zeros.

        Raises:
            MalformedError: not 960 bytes.
        """
        require_length(data, QE_REPORT_INFO_SIZE, "qe_report_info")
        target = TargetInfo.parse(data[NONCE_SIZE : NONCE_SIZE + TARGET_INFO_SIZE])
        return cls(data[:NONCE_SIZE], target, data[NONCE_SIZE + TARGET_INFO_SIZE :])

    def encode(self) -> bytes:
        """The 960 bytes again."""
        return self.nonce + self.app_enclave_target_info.encode() + self.qe_report
