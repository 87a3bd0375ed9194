"""REPORT, its body, TARGETINFO, and the qe_report_info that goes around a quote.

Layouts: Intel SDM vol. 3D, "REPORT" and "TARGETINFO"; Intel's sgx_report.h and sgx_quote.h.
All integers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Self

from confcom.errors import MalformedError
from confcom.sgx.binary import Layout, require_length

REPORT_BODY_SIZE = 384
REPORT_SIZE = 432
TARGET_INFO_SIZE = 512
QE_REPORT_INFO_SIZE = 960
REPORT_DATA_SIZE = 64
NONCE_SIZE = 16
CPU_SVN_SIZE = 16
KEY_ID_SIZE = 32
MAC_SIZE = 16
_MR_ENCLAVE_START = 64
"""Bytes from the start of a report (SDM vol. 3D, "REPORT")."""
MR_ENCLAVE_SIZE = 32

_BODY = Layout(
    "an SGX report body",
    cpu_svn="16s",
    misc_select="I",
    reserved1="12s",
    isv_ext_prod_id="16s",
    flags="Q",
    xfrm="Q",
    mr_enclave="32s",
    reserved2="32s",
    mr_signer="32s",
    reserved3="32s",
    config_id="64s",
    isv_prod_id="H",
    isv_svn="H",
    config_svn="H",
    reserved4="42s",
    isv_family_id="16s",
    report_data="64s",
)
_TARGET_INFO = Layout(
    "SGX target info",
    mr_enclave="32s",
    flags="Q",
    xfrm="Q",
    reserved1="2s",
    config_svn="H",
    misc_select="I",
    reserved2="8s",
    config_id="64s",
    reserved3="384s",
)


class AttributeFlag(IntFlag):
    """SECS.ATTRIBUTES.FLAGS bits that quoting cares about (SDM, "ATTRIBUTES")."""

    INITTED = 0x01
    DEBUG = 0x02
    MODE64BIT = 0x04
    PROVISION_KEY = 0x10
    EINITTOKEN_KEY = 0x20
    CET = 0x40
    KSS = 0x80
    AEX_NOTIFY = 0x400


def attribute_names(flags: int) -> tuple[str, ...]:
    """The flags for people, lowest bit first; a bit without a name appears as its value.

    >>> attribute_names(0x8000_0005)
    ('INITTED', 'MODE64BIT', '0x80000000')
    """
    bits = (1 << shift for shift in range(flags.bit_length()) if flags >> shift & 1)
    return tuple(AttributeFlag(bit).name or f"0x{bit:x}" for bit in bits)


def report_data_from(challenge: bytes) -> bytes:
    """The 64 bytes of report data for a challenge (or a hash of a key): the bytes, then zeros.

    Enclaves and relying parties must fill up in the same way. Nothing at all is no challenge: any old quote fits it.

    Raises:
        MalformedError: empty, or longer than 64 bytes.
    """
    if not 0 < len(challenge) <= REPORT_DATA_SIZE:
        raise MalformedError(
            f"report data takes 1 to {REPORT_DATA_SIZE} bytes, not {len(challenge)}",
            why="an enclave's report has that much room, and without a challenge any old quote would do",
            remedy=f"pass up to {REPORT_DATA_SIZE} bytes; of anything longer, its hash",
        )
    return challenge.ljust(REPORT_DATA_SIZE, b"\0")


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
        return cls(*_BODY.unpack(data))

    def encode(self) -> bytes:
        """The 384 bytes again, identical to what was parsed.

        Raises:
            MalformedError: a field does not fit.
        """
        return _BODY.pack(self)

    @property
    def debug(self) -> bool:
        """Whether the enclave was launched with DEBUG: its memory is readable from outside."""
        return bool(self.flags & AttributeFlag.DEBUG)


@dataclass(frozen=True, slots=True)
class Report:
    """What EREPORT returns: a body, and a MAC that only the target enclave can check."""

    encoded_body: bytes
    """The 384 bytes that the MAC covers. Whoever makes a quote needs them as they are, and their fields rarely."""
    key_id: bytes
    mac: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one report.

        Raises:
            MalformedError: not 432 bytes.
        """
        require_length(data, REPORT_SIZE, "an SGX report")
        return cls(data[:REPORT_BODY_SIZE], data[REPORT_BODY_SIZE:-MAC_SIZE], data[-MAC_SIZE:])

    @property
    def body(self) -> ReportBody:
        """The fields of the body.

        Raises:
            MalformedError: the body is not 384 bytes.
        """
        return ReportBody.parse(self.encoded_body)

    @property
    def cpu_svn(self) -> bytes:
        """The first field of the body: of the platform on which the report was made."""
        return self.encoded_body[:CPU_SVN_SIZE]

    def encode(self) -> bytes:
        """The 432 bytes again.

        Raises:
            MalformedError: a field does not fit.
        """
        require_length(self.encoded_body, REPORT_BODY_SIZE, "body of an SGX report")
        require_length(self.key_id, KEY_ID_SIZE, "key_id of an SGX report")
        require_length(self.mac, MAC_SIZE, "mac of an SGX report")
        return self.encoded_body + self.key_id + self.mac


def mr_enclave_of(report: bytes) -> bytes:
    """Take the 32 bytes of MRENCLAVE out of a report, without reading the rest.

    Raises:
        MalformedError: not 432 bytes.
    """
    require_length(report, REPORT_SIZE, "an SGX report")
    return report[_MR_ENCLAVE_START : _MR_ENCLAVE_START + MR_ENCLAVE_SIZE]


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
        return cls(*_TARGET_INFO.unpack(data))

    def encode(self) -> bytes:
        """The 512 bytes again.

        Raises:
            MalformedError: a field does not fit.
        """
        return _TARGET_INFO.pack(self)


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
        """The 960 bytes again.

        Raises:
            MalformedError: a field does not fit.
        """
        require_length(self.nonce, NONCE_SIZE, "nonce of qe_report_info")
        require_length(self.qe_report, REPORT_SIZE, "qe_report of qe_report_info")
        return self.nonce + self.app_enclave_target_info.encode() + self.qe_report
