"""The DER of a PCK certificate's SGX extension, by cryptography's declarative ASN.1.

That interface is documented as unstable and knows no ENUMERATED, hence this module is the only one that uses it, and
`enumerated` the only place that touches DER by hand. Values are not judged here, only structure and member numbers.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat import asn1

from confcom.errors import MalformedError

SGX_EXTENSION_OID = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
MAX_EXTENSION_SIZE = 4096
"""Real ones take 453 (processor) to about 555 bytes (platform); nothing much longer is worth decoding."""

ENUMERATED_TAG = b"\x0a"


def member_oid(*arcs: int) -> x509.ObjectIdentifier:
    """The OID of a member, by its number (and the number within it)."""
    return x509.ObjectIdentifier(".".join((SGX_EXTENSION_OID.dotted_string, *map(str, arcs))))


PPID_OID = member_oid(1)
TCB_OID = member_oid(2)
COMPONENT_OIDS = tuple(member_oid(2, number) for number in range(1, 17))
PCE_SVN_OID = member_oid(2, 17)
CPU_SVN_OID = member_oid(2, 18)
PCE_ID_OID = member_oid(3)
FMSPC_OID = member_oid(4)
SGX_TYPE_OID = member_oid(5)
PLATFORM_INSTANCE_ID_OID = member_oid(6)
CONFIGURATION_OID = member_oid(7)
CONFIGURATION_OIDS = tuple(member_oid(7, number) for number in range(1, 4))
COMPONENT_NAMES = tuple(f"comp{number:02}" for number in range(1, 17))

_MANDATORY_OIDS = (
    PPID_OID,
    TCB_OID,
    *COMPONENT_OIDS,
    PCE_SVN_OID,
    CPU_SVN_OID,
    PCE_ID_OID,
    FMSPC_OID,
    SGX_TYPE_OID,
)


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
    """Read the structure; each member must stand in its place under its own number.

    Raises:
        MalformedError: too long, not DER, or not this structure.
    """
    if len(der) > MAX_EXTENSION_SIZE:
        raise MalformedError(f"an SGX extension of {len(der)} bytes is too long", why=f"{MAX_EXTENSION_SIZE} is most")
    try:
        extension = asn1.decode_der(Extension, der)
    except ValueError as error:
        raise MalformedError("this is not the SGX extension of a PCK certificate", why=str(error)) from error
    _require_oids(extension)
    if extension.sgx_type.value.tag_bytes != ENUMERATED_TAG:
        raise MalformedError("the SGX type of a PCK certificate is not ENUMERATED")
    return extension


def encode(extension: Extension) -> bytes:
    """The structure as DER."""
    return asn1.encode_der(extension)


def enumerated(oid: x509.ObjectIdentifier, value: int) -> Any:
    """A member whose value is an ENUMERATED of one byte: an INTEGER's DER under the other tag."""
    as_integer = asn1.encode_der(Integer(oid=oid, value=value))
    return asn1.decode_der(Any, as_integer[:-3] + ENUMERATED_TAG + as_integer[-2:])


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
        expected.append(PLATFORM_INSTANCE_ID_OID)
    if extension.configuration is not None:
        flags = extension.configuration.value
        found += [extension.configuration.oid, flags.dynamic_platform.oid, flags.cached_keys.oid, flags.smt_enabled.oid]
        expected += [CONFIGURATION_OID, *CONFIGURATION_OIDS]
    for actual, wanted in zip(found, expected, strict=True):
        if actual != wanted:
            raise MalformedError(
                "the SGX extension's members are not the expected ones",
                why=f"{actual.dotted_string} stands where {wanted.dotted_string} belongs",
            )
