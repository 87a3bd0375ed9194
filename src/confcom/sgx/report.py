"""Parsing and encoding of REPORT, its body, TARGETINFO, and qe_report_info.

Layouts: Intel SDM vol. 3D, "REPORT" and "TARGETINFO"; Intel's sgx_report.h and sgx_quote.h.
All integers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Self

from confcom.errors import WrongTypeError, WrongValueError
from confcom.sgx.binary import Layout, Structure, require_length

REPORT_BODY_SIZE = 384
REPORT_SIZE = 432
TARGET_INFO_SIZE = 512
QE_REPORT_INFO_SIZE = 960
REPORT_DATA_SIZE = 64
NONCE_SIZE = 16
CPU_SVN_SIZE = 16
KEY_ID_SIZE = 32
MAC_SIZE = 16
_MR_ENCLAVE = slice(64, 96)
"""Position of MRENCLAVE in a report (SDM vol. 3D, "REPORT")."""
INTEL_QE_MRSIGNER = bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff")
"""MRSIGNER of Intel's production quoting enclave; Gramine and Intel's ql wrapper hard-code this public value."""


class AttributeFlag(IntFlag):
    """Bits of SECS.ATTRIBUTES.FLAGS that are relevant to quoting (SDM, "ATTRIBUTES")."""

    INITTED = 0x01
    DEBUG = 0x02
    MODE64BIT = 0x04
    PROVISION_KEY = 0x10
    EINITTOKEN_KEY = 0x20
    CET = 0x40
    KSS = 0x80
    AEX_NOTIFY = 0x400


def attribute_names(flags: int, kind: type[IntFlag] = AttributeFlag) -> tuple[str, ...]:
    """Return the names of the flags in `kind`, lowest bit first; a bit without a name is shown as its value.

    >>> attribute_names(0x8000_0005)
    ('INITTED', 'MODE64BIT', '0x80000000')
    """
    bits = (1 << shift for shift in range(flags.bit_length()) if flags >> shift & 1)
    return tuple(kind(bit).name or f"0x{bit:x}" for bit in bits)


def report_data(challenge: bytes) -> bytes:
    """Return the 64 bytes of report data for a challenge or the hash of a key: the value, then zeros.

    The enclave and the relying party must pad a value in the same way. An empty challenge is refused, because
    any old quote would match it.

    Raises:
        WrongValueError: the challenge is empty, or longer than 64 bytes.
        WrongTypeError: the challenge is not bytes.
    """
    if not isinstance(challenge, bytes):
        raise WrongTypeError("the challenge", "bytes", challenge)
    if not 0 < len(challenge) <= REPORT_DATA_SIZE:
        raise WrongValueError(
            f"report data takes 1 to {REPORT_DATA_SIZE} bytes, not {len(challenge)}",
            error_code="report-data-size",
            why="an enclave's report has this size, and without a challenge any old quote would be accepted",
            remedy=f"pass up to {REPORT_DATA_SIZE} bytes; of anything longer, its hash",
        )
    return challenge.ljust(REPORT_DATA_SIZE, b"\0")


@dataclass(frozen=True, slots=True)
class ReportBody(Structure):
    """The 384 bytes that a report's MAC and a quote's signature cover.

    Reserved fields are kept, because a quote contains the body byte for byte as the hardware wrote it.
    """

    cpu_svn: bytes
    misc_select: int = 0
    reserved1: bytes = bytes(12)
    isv_ext_prod_id: bytes = bytes(16)
    flags: int = 0
    xfrm: int = 0
    mr_enclave: bytes = bytes(32)
    reserved2: bytes = bytes(32)
    mr_signer: bytes = bytes(32)
    reserved3: bytes = bytes(32)
    config_id: bytes = bytes(64)
    isv_prod_id: int = 0
    isv_svn: int = 0
    config_svn: int = 0
    reserved4: bytes = bytes(42)
    isv_family_id: bytes = bytes(16)
    report_data: bytes = bytes(64)

    @property
    def debug(self) -> bool:
        """Whether the enclave was launched with DEBUG, so that its memory is readable from outside."""
        return bool(self.flags & AttributeFlag.DEBUG)


ReportBody.layout = Layout(
    "an SGX report body", fields(ReportBody), "16s I 12s 16s Q Q 32s 32s 32s 32s 64s H H H 42s 16s 64s"
)


@dataclass(frozen=True, slots=True)
class Report(Structure):
    """The result of EREPORT (432 bytes): a body, and a MAC that only the target enclave can check."""

    encoded_body: bytes
    """The 384 bytes that the MAC covers. The body is kept unparsed, because making a quote needs the bytes,
    and rarely the fields."""
    key_id: bytes
    """KEYID, 32 bytes."""
    mac: bytes
    """MAC, 16 bytes."""

    @property
    def body(self) -> ReportBody:
        return ReportBody.parse(self.encoded_body)

    @property
    def cpu_svn(self) -> bytes:
        """CPUSVN (the body's first field) of the platform that made the report."""
        return self.encoded_body[:CPU_SVN_SIZE]


Report.layout = Layout("an SGX report", fields(Report), "384s 32s 16s")


def mr_enclave_of(report: bytes) -> bytes:
    """Return MRENCLAVE (32 bytes) of a report without parsing the rest."""
    require_length(report, REPORT_SIZE, "an SGX report")
    return report[_MR_ENCLAVE]


@dataclass(frozen=True, slots=True)
class TargetInfo(Structure):
    """TARGETINFO (512 bytes): identity of a report's target enclave, from which the report key is derived.

    Args:
        mr_enclave: 32 bytes.
        flags: ATTRIBUTES.FLAGS.
        xfrm: ATTRIBUTES.XFRM.
        reserved1: 2 bytes, kept as they are.
        config_svn: CONFIGSVN.
        misc_select: MISCSELECT.
        reserved2: 8 bytes, kept as they are.
        config_id: CONFIGID, 64 bytes.
        reserved3: 384 bytes, kept as they are.
    """

    mr_enclave: bytes
    flags: int
    xfrm: int
    reserved1: bytes = bytes(2)
    config_svn: int = 0
    misc_select: int = 0
    reserved2: bytes = bytes(8)
    config_id: bytes = bytes(64)
    reserved3: bytes = bytes(384)


TargetInfo.layout = Layout("SGX target info", fields(TargetInfo), "32s Q Q 2s H I 8s 64s 384s")


@dataclass(frozen=True, slots=True)
class QeReportInfo:
    """sgx_qe_report_info_t: the client supplies nonce and target info, and the QE adds its own report.

    Args:
        nonce: the client's nonce, 16 bytes.
        app_enclave_target_info: the target info of the enclave that will check the QE's report.
        qe_report: the QE's report, 432 bytes; zeros in a request.
    """

    nonce: bytes
    app_enclave_target_info: TargetInfo
    qe_report: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse exactly one qe_report_info, 960 bytes. Raises MalformedError if `data` has another length."""
        require_length(data, QE_REPORT_INFO_SIZE, "qe_report_info")
        target = TargetInfo.parse(data[NONCE_SIZE : NONCE_SIZE + TARGET_INFO_SIZE])
        return cls(data[:NONCE_SIZE], target, data[NONCE_SIZE + TARGET_INFO_SIZE :])

    def encode(self) -> bytes:
        """Encode to 960 bytes."""
        require_length(self.nonce, NONCE_SIZE, "nonce of qe_report_info")
        require_length(self.qe_report, REPORT_SIZE, "qe_report of qe_report_info")
        return self.nonce + self.app_enclave_target_info.encode() + self.qe_report
