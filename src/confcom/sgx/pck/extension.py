"""The SGX extension of a PCK certificate: it identifies the platform and its TCB.

Intel's "SGX PCK Certificate and CRL Profile Specification", OID 1.2.840.113741.1.13.1: a SEQUENCE of (OID, value)
pairs, 5 for certificates of the Processor CA and 7 for those of the Platform CA.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx.binary import require_length
from confcom.sgx.certification import UNREADABLE_X509
from confcom.sgx.pck import extension_der as der_codec
from confcom.sgx.report import CPU_SVN_SIZE

SGX_EXTENSION_OID = der_codec.SGX_EXTENSION_OID
TCB_COMPONENT_COUNT = 16
PPID_SIZE = 16
PCE_ID_SIZE = 2
FMSPC_SIZE = 6
PLATFORM_INSTANCE_ID_SIZE = 16
MAX_COMPONENT_SVN = 0xFF
"""A TCB component is one byte of the CPUSVN."""
MAX_PCE_SVN = 0xFFFF
"""ISVSVN of the PCE: 16 bits, as in every report."""


class SgxType(IntEnum):
    """How the platform's memory is protected (member 5)."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PckTcb:
    """The TCB for which a PCK certificate was issued."""

    components: tuple[int, ...]
    """SVNs of the 16 components, 0 to 255, as TCB info compares them."""
    pce_svn: int
    cpu_svn: bytes
    """The 16 bytes that the processor reports."""


@dataclass(frozen=True, slots=True)
class PlatformConfiguration:
    """Configuration of a multi-package platform (member 7)."""

    dynamic_platform: bool
    """Whether packages may be added later."""
    cached_keys: bool
    """Whether Intel's registration service holds the platform's root keys."""
    smt_enabled: bool
    """Whether hyper-threading is on."""


@dataclass(frozen=True, slots=True)
class PckExtension:
    """The whole extension; the last two members are both set (Platform CA) or both None (Processor CA)."""

    ppid: bytes
    tcb: PckTcb
    pce_id: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance_id: bytes | None = None
    configuration: PlatformConfiguration | None = None

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Parse the extension's value.

        Members that are out of order, missing or unknown are rejected, so that encoding returns the same bytes.

        Raises:
            MalformedError: not DER, or not this structure, or a value out of its range.
        """
        raw = der_codec.decode(der)
        extension = cls(
            ppid=raw.ppid.value,
            tcb=_tcb(raw.tcb.value),
            pce_id=raw.pce_id.value,
            fmspc=raw.fmspc.value,
            sgx_type=_sgx_type(bytes(raw.sgx_type.value.data)),
            platform_instance_id=raw.platform_instance_id.value if raw.platform_instance_id else None,
            configuration=_configuration(raw.configuration.value) if raw.configuration else None,
        )
        extension._require_ranges()
        return extension

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> Self:
        """Parse the extension of a PCK certificate.

        Raises:
            MalformedError: the certificate has no such extension, or a malformed one.
        """
        try:
            extension = certificate.extensions.get_extension_for_oid(SGX_EXTENSION_OID).value
        except (x509.ExtensionNotFound, *UNREADABLE_X509) as error:
            raise MalformedError(
                "a certificate has no SGX extension that could be read",
                error_code="no-sgx-extension",
                why=str(error),
                remedy="pass a PCK certificate: only these carry it, not their issuers",
            ) from error
        return cls.parse(extension.public_bytes())

    def encode(self) -> bytes:
        """Encode the extension's value as DER."""
        self._require_ranges()
        members = [
            der_codec.member(1, der_codec.octets(self.ppid)),
            der_codec.member(2, _encode_tcb(self.tcb)),
            der_codec.member(3, der_codec.octets(self.pce_id)),
            der_codec.member(4, der_codec.octets(self.fmspc)),
            der_codec.member(5, der_codec.enumerated(self.sgx_type)),
        ]
        if self.platform_instance_id is not None and self.configuration is not None:
            members.append(der_codec.member(6, der_codec.octets(self.platform_instance_id)))
            members.append(der_codec.member(7, _encode_configuration(self.configuration)))
        return der_codec.sequence(*members)

    def _require_ranges(self) -> None:
        require_length(self.ppid, PPID_SIZE, "a PPID")
        require_length(self.pce_id, PCE_ID_SIZE, "a PCE-ID")
        require_length(self.fmspc, FMSPC_SIZE, "an FMSPC")
        require_length(self.tcb.cpu_svn, CPU_SVN_SIZE, "a CPUSVN")
        if len(self.tcb.components) != TCB_COMPONENT_COUNT:
            raise MalformedError(
                f"a TCB has {TCB_COMPONENT_COUNT} components, not {len(self.tcb.components)}",
                error_code="wrong-component-count",
            )
        for number, svn in enumerate(self.tcb.components, 1):
            _require_range(svn, MAX_COMPONENT_SVN, f"the SVN of TCB component {number}")
        _require_range(self.tcb.pce_svn, MAX_PCE_SVN, "the PCESVN")
        if (self.platform_instance_id is None) != (self.configuration is None):
            raise MalformedError(
                "an SGX extension has a platform instance id or a configuration without the other",
                error_code="platform-members-incomplete",
                why="certificates of the Platform CA carry both, those of the Processor CA neither",
            )
        if self.platform_instance_id is not None:
            require_length(self.platform_instance_id, PLATFORM_INSTANCE_ID_SIZE, "a platform instance id")


def _require_range(value: int, maximum: int, name: str) -> None:
    if not 0 <= value <= maximum:
        raise MalformedError(f"{name} is not between 0 and {maximum}", error_code="out-of-range")


def _tcb(members: der_codec.TcbMembers) -> PckTcb:
    components = tuple(getattr(members, name).value for name in der_codec.COMPONENT_NAMES)
    return PckTcb(components, members.pce_svn.value, members.cpu_svn.value)


def _encode_tcb(tcb: PckTcb) -> bytes:
    components = (der_codec.member((2, n), der_codec.integer(svn)) for n, svn in enumerate(tcb.components, 1))
    return der_codec.sequence(
        *components,
        der_codec.member((2, 17), der_codec.integer(tcb.pce_svn)),
        der_codec.member((2, 18), der_codec.octets(tcb.cpu_svn)),
    )


def _configuration(members: der_codec.ConfigurationMembers) -> PlatformConfiguration:
    return PlatformConfiguration(members.dynamic_platform.value, members.cached_keys.value, members.smt_enabled.value)


def _encode_configuration(configuration: PlatformConfiguration) -> bytes:
    return der_codec.sequence(
        der_codec.member((7, 1), der_codec.boolean(value=configuration.dynamic_platform)),
        der_codec.member((7, 2), der_codec.boolean(value=configuration.cached_keys)),
        der_codec.member((7, 3), der_codec.boolean(value=configuration.smt_enabled)),
    )


def _sgx_type(content: bytes) -> SgxType:
    try:
        return SgxType(int.from_bytes(content) if len(content) == 1 else -1)
    except ValueError as error:
        raise MalformedError(
            f"SGX type 0x{content.hex()} of a PCK certificate is unknown", error_code="unknown-sgx-type"
        ) from error
