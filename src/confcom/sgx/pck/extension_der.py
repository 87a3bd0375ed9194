"""DER of a PCK certificate's SGX extension: decoded by cryptography's declarative ASN.1, encoded by own functions.

The declarative ASN.1 interface is documented as unstable, so only this module uses it. It can read any element but
cannot write an ENUMERATED (docs/adr/0003). This module checks structure and member numbers, not values.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat import asn1

from confcom.errors import MalformedError

SGX_EXTENSION_OID = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
MAX_EXTENSION_SIZE = 4096
"""Real extensions take 453 (Processor CA) to about 555 bytes (Platform CA); much longer ones are not decoded."""

ENUMERATED_TAG = b"\x0a"
COMPONENT_NAMES = tuple(f"comp{number:02}" for number in range(1, 17))

_SGX_EXTENSION_OID_CONTENT = bytes.fromhex("2a864886f84d010d01")
"""Content bytes of SGX_EXTENSION_OID in DER; members add one or two arcs below 128, one byte each."""


def member_oid(*arcs: int) -> x509.ObjectIdentifier:
    """Return the OID of a member from its number (and the number of a sub-member)."""
    return x509.ObjectIdentifier(".".join((SGX_EXTENSION_OID.dotted_string, *map(str, arcs))))


_MANDATORY_OIDS = (
    member_oid(1),
    member_oid(2),
    *(member_oid(2, number) for number in range(1, 19)),
    member_oid(3),
    member_oid(4),
    member_oid(5),
)
_PLATFORM_INSTANCE_ID_OID = member_oid(6)
_CONFIGURATION_OIDS = (member_oid(7), *(member_oid(7, number) for number in range(1, 4)))


@asn1.sequence
class Octets:
    """A member whose value is an OCTET STRING."""

    oid: x509.ObjectIdentifier
    value: bytes


@asn1.sequence
class Any:
    """A member whose value is any one element."""

    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class Integer:
    """A member whose value is an INTEGER."""

    oid: x509.ObjectIdentifier
    value: int


@asn1.sequence
class Boolean:
    """A member whose value is a BOOLEAN."""

    oid: x509.ObjectIdentifier
    value: bool


@asn1.sequence
class TcbMembers:
    """Members .2.1 to .2.18."""

    comp01: Integer
    comp02: Integer
    comp03: Integer
    comp04: Integer
    comp05: Integer
    comp06: Integer
    comp07: Integer
    comp08: Integer
    comp09: Integer
    comp10: Integer
    comp11: Integer
    comp12: Integer
    comp13: Integer
    comp14: Integer
    comp15: Integer
    comp16: Integer
    pce_svn: Integer
    cpu_svn: Octets


@asn1.sequence
class Tcb:
    """Member .2."""

    oid: x509.ObjectIdentifier
    value: TcbMembers


@asn1.sequence
class ConfigurationMembers:
    """Members .7.1 to .7.3."""

    dynamic_platform: Boolean
    cached_keys: Boolean
    smt_enabled: Boolean


@asn1.sequence
class Configuration:
    """Member .7."""

    oid: x509.ObjectIdentifier
    value: ConfigurationMembers


@asn1.sequence
class Extension:
    """The extension's value."""

    ppid: Octets
    tcb: Tcb
    pce_id: Octets
    fmspc: Octets
    sgx_type: Any
    platform_instance_id: Octets | None
    configuration: Configuration | None


def decode(der: bytes) -> Extension:
    """Decode the extension; every member must be at its position and have its own OID.

    Raises:
        MalformedError: too long, not DER, or not this structure.
    """
    if len(der) > MAX_EXTENSION_SIZE:
        raise MalformedError(
            f"an SGX extension of {len(der)} bytes is too long",
            error_code="too-long",
            why=f"{MAX_EXTENSION_SIZE} is most",
        )
    try:
        extension = asn1.decode_der(Extension, der)
    except ValueError as error:
        raise MalformedError(
            "this is not the SGX extension of a PCK certificate", error_code="not-an-sgx-extension", why=str(error)
        ) from error
    _require_oids(extension)
    if extension.sgx_type.value.tag_bytes != ENUMERATED_TAG:
        raise MalformedError(
            "the SGX type of a PCK certificate is not ENUMERATED", error_code="sgx-type-not-enumerated"
        )
    return extension


def sequence(*items: bytes) -> bytes:
    """Encode a SEQUENCE of elements as DER."""
    return _element(0x30, b"".join(items))


def member(number: int | tuple[int, int], value: bytes) -> bytes:
    """Encode a pair of OID and value as DER; `number` is the member's (and the sub-member's) number in the OID."""
    arcs = bytes((number,) if isinstance(number, int) else number)
    return sequence(_element(0x06, _SGX_EXTENSION_OID_CONTENT + arcs), value)


def octets(value: bytes) -> bytes:
    """Encode an OCTET STRING as DER."""
    return _element(0x04, value)


def integer(value: int) -> bytes:
    """Encode an INTEGER that is not negative as DER."""
    return _element(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def enumerated(value: int) -> bytes:
    """Encode an ENUMERATED from 0 to 127 as DER."""
    return _element(ENUMERATED_TAG[0], bytes((value,)))


def boolean(*, value: bool) -> bytes:
    """Encode a BOOLEAN as DER."""
    return _element(0x01, b"\xff" if value else b"\x00")


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _require_oids(extension: Extension) -> None:
    tcb = extension.tcb.value
    found = [
        extension.ppid.oid,
        extension.tcb.oid,
        *(getattr(tcb, name).oid for name in COMPONENT_NAMES),
        tcb.pce_svn.oid,
        tcb.cpu_svn.oid,
        extension.pce_id.oid,
        extension.fmspc.oid,
        extension.sgx_type.oid,
    ]
    expected = [*_MANDATORY_OIDS]
    if extension.platform_instance_id is not None:
        found.append(extension.platform_instance_id.oid)
        expected.append(_PLATFORM_INSTANCE_ID_OID)
    if extension.configuration is not None:
        flags = extension.configuration.value
        found += [extension.configuration.oid, flags.dynamic_platform.oid, flags.cached_keys.oid, flags.smt_enabled.oid]
        expected += _CONFIGURATION_OIDS
    for actual, wanted in zip(found, expected, strict=True):
        if actual != wanted:
            raise MalformedError(
                "the SGX extension's members are not the expected ones",
                error_code="unexpected-oid",
                why=f"{actual.dotted_string} was found instead of {wanted.dotted_string}",
            )
