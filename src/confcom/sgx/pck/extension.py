"""The SGX extension of a PCK certificate: it identifies the platform and its TCB.

Intel's "SGX PCK Certificate and CRL Profile Specification", OID 1.2.840.113741.1.13.1: a SEQUENCE of (OID, value)
pairs, 5 if the Processor CA issued the certificate, 7 if the Platform CA did. The extension is read with
cryptography's declarative ASN.1, which is documented as unstable and cannot write an ENUMERATED (docs/adr/0003).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cryptography import x509
from cryptography.hazmat import asn1

from confcom.errors import MalformedError
from confcom.sgx.binary import SEQUENCE, der_element, require_length, require_range
from confcom.sgx.certification import UNREADABLE_X509
from confcom.sgx.report import CPU_SVN_SIZE

SGX_EXTENSION_OID = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
TCB_COMPONENT_COUNT = 16
PPID_SIZE = 16
PCE_ID_SIZE = 2
FMSPC_SIZE = 6
PLATFORM_INSTANCE_ID_SIZE = 16
MAX_COMPONENT_SVN = 0xFF
"""Greatest SVN of a TCB component, which is one byte of the CPUSVN."""
MAX_PCE_SVN = 0xFFFF
"""Greatest ISVSVN of the PCE, which has 16 bits as in every report."""

_OID_CONTENT = bytes.fromhex("2a864886f84d010d01")
"""DER content of SGX_EXTENSION_OID; a member's OID has one or two more arcs below 128, one byte each."""
_BOOLEAN, _INTEGER, _OCTET_STRING, _OID, _ENUMERATED = 0x01, 0x02, 0x04, 0x06, 0x0A


class SgxType(IntEnum):
    """Kind of the platform's memory protection; it is member 5 of the extension."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PckTcb:
    """The TCB for which a PCK certificate was issued."""

    components: tuple[int, ...]
    """SVNs of the 16 components, each from 0 to 255, for comparison with TCB info."""
    pce_svn: int
    cpu_svn: bytes
    """CPUSVN: the 16 bytes that the processor reports."""


@dataclass(frozen=True, slots=True)
class PlatformConfiguration:
    dynamic_platform: bool
    """Whether CPU packages may be added to the platform later."""
    cached_keys: bool
    """Whether Intel's registration service holds the platform's root keys."""
    smt_enabled: bool
    """Whether hyper-threading is on."""


@asn1.sequence
class _Octets:
    oid: x509.ObjectIdentifier
    value: bytes


@asn1.sequence
class _Any:
    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Members:
    oid: x509.ObjectIdentifier
    value: list[_Any]


@asn1.sequence
class _Extension:
    ppid: _Octets
    tcb: _Members
    pce_id: _Octets
    fmspc: _Octets
    sgx_type: _Any
    platform_instance_id: _Octets | None
    configuration: _Members | None


@dataclass(frozen=True, slots=True)
class PckExtension:
    """The SGX extension; the last two members are both set (Platform CA) or both None (Processor CA)."""

    ppid: bytes
    tcb: PckTcb
    pce_id: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance_id: bytes | None = None
    configuration: PlatformConfiguration | None = None

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Parse the extension's value, which must be exactly the DER that `encode` would write."""
        try:
            raw = asn1.decode_der(_Extension, der)
            *components, pce_svn, cpu_svn = (member.value for member in raw.tcb.value)
            svns = tuple(component.parse(int) for component in components)
            flags = [flag.value.parse(bool) for flag in raw.configuration.value] if raw.configuration else []
            extension = cls(
                ppid=raw.ppid.value,
                tcb=PckTcb(svns, pce_svn.parse(int), cpu_svn.parse(bytes)),
                pce_id=raw.pce_id.value,
                fmspc=raw.fmspc.value,
                sgx_type=SgxType(int.from_bytes(raw.sgx_type.value.data)),
                platform_instance_id=raw.platform_instance_id.value if raw.platform_instance_id else None,
                configuration=PlatformConfiguration(*flags) if flags else None,
            )
        except (ValueError, TypeError) as error:
            raise _other(str(error)) from error
        if extension.encode() != der:
            raise _other("a member is unknown, or not at its place")
        return extension

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> Self:
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
        self._require_ranges()
        svns = (*self.tcb.components, self.tcb.pce_svn)
        tcb = [(_INTEGER, svn.to_bytes(svn.bit_length() // 8 + 1)) for svn in svns]
        tcb.append((_OCTET_STRING, self.tcb.cpu_svn))
        members = [
            _member(_OCTET_STRING, self.ppid, 1),
            _member(SEQUENCE, b"".join(_member(*part, 2, number) for number, part in enumerate(tcb, 1)), 2),
            _member(_OCTET_STRING, self.pce_id, 3),
            _member(_OCTET_STRING, self.fmspc, 4),
            _member(_ENUMERATED, bytes((self.sgx_type,)), 5),
        ]
        if self.platform_instance_id is not None and (own := self.configuration):
            flags = enumerate((own.dynamic_platform, own.cached_keys, own.smt_enabled), 1)
            encoded = (_member(_BOOLEAN, b"\xff" if flag else b"\0", 7, number) for number, flag in flags)
            members += [_member(_OCTET_STRING, self.platform_instance_id, 6), _member(SEQUENCE, b"".join(encoded), 7)]
        return der_element(SEQUENCE, b"".join(members))

    def _require_ranges(self) -> None:
        require_length(self.ppid, PPID_SIZE, "a PPID")
        require_length(self.pce_id, PCE_ID_SIZE, "a PCE-ID")
        require_length(self.fmspc, FMSPC_SIZE, "an FMSPC")
        require_length(self.tcb.cpu_svn, CPU_SVN_SIZE, "a CPUSVN")
        if len(self.tcb.components) != TCB_COMPONENT_COUNT:
            raise _other(f"a TCB has {TCB_COMPONENT_COUNT} components, not {len(self.tcb.components)}")
        for number, svn in enumerate(self.tcb.components, 1):
            require_range(svn, MAX_COMPONENT_SVN, f"the SVN of TCB component {number}")
        require_range(self.tcb.pce_svn, MAX_PCE_SVN, "the PCESVN")
        if (self.platform_instance_id is None) != (self.configuration is None):
            raise _other("a Platform CA writes a platform instance id and a configuration, a Processor CA neither")
        if self.platform_instance_id is not None:
            require_length(self.platform_instance_id, PLATFORM_INSTANCE_ID_SIZE, "a platform instance id")


def _other(why: str) -> MalformedError:
    return MalformedError(
        "this is not the SGX extension of a PCK certificate", error_code="not-an-sgx-extension", why=why
    )


def _member(tag: int, content: bytes, *arcs: int) -> bytes:
    """Encode a pair of OID and value. `arcs`: the member's number, then the sub-member's if there is one."""
    return der_element(SEQUENCE, der_element(_OID, _OID_CONTENT + bytes(arcs)) + der_element(tag, content))
