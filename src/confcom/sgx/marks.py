"""The marks by which everything that a simulated platform makes can be told from Intel's.

A mark only ever lowers trust: whoever forges a quote can leave marks out, and cannot gain anything by putting them
in. What makes a quote genuine is Intel's root key and nothing else. The marks are here, in the room of formats, so
that the simulated platform (which writes them) and the verifier (which looks for them) share one list.
"""

from __future__ import annotations

from enum import Enum, unique

from cryptography import x509

SIMULATION_CPU_SVNS = (
    bytes.fromhex("4820f3376ae6b2f2034d3b7a4b48a778"),
    bytes.fromhex("5339ae8c93ae8f3ce432db924d0f0733"),
    bytes.fromhex("64ea4f3fa0030c36383c322d4f3a8d4f"),
)
"""CPUSVN of Intel's SDK simulation mode: default, upgraded, downgraded (sdk/simulation/tinst/deriv.h).

The only mark that a report body can carry, and it comes from the SDK, not from us: no processor reports these.
"""

HEADER_USER_DATA = b"SIMULATED-NOT-INTEL!"
"""Quote header, user_data (20 bytes). Intel's QE puts its QE_ID there; verifiers do not look at it."""

QE_AUTH_DATA = b"SIMULATED-SGX-NOT-INTEL-HARDWARE"
"""QE authentication data: 32 bytes, since dcap-qvl accepts no other length. Intel's is 00 01 02 ... 1f."""

FMSPC = b"SIMSGX"
"""Family, model, stepping, platform type, custom SKU (6 bytes): what TCB info is looked up by."""

PPID = b"SIMULATED-PPID!!"
"""Platform provisioning id in the PCK certificate (16 bytes)."""

PLATFORM_INSTANCE_ID = b"SIMULATED-PLATF!"
"""Platform instance id in the PCK certificate of a platform CA (16 bytes)."""

COMMON_NAME_PREFIX = "SIMULATED "
COMMON_NAME_SUFFIX = " - NOT INTEL"
ORGANIZATION = "confcom simulated platform - not Intel Corporation"
COUNTRY = "ZZ"
"""A user-assigned code of ISO 3166: no country has it."""

NS_COMMENT_OID = x509.ObjectIdentifier("2.16.840.1.113730.1.13")
"""Netscape's comment extension: tools print it, and as it is not critical no verifier refuses it."""

NS_COMMENT = "Made by a simulated SGX platform. No hardware protects anything attested with it. Not by Intel."

ADVISORY_ID = "SIMULATED-NOT-GENUINE-INTEL"
"""Advisory on the UpToDate levels of TCB info and QE identity: shows in every dcap-qvl result and can be rejected."""

SIMULATION_MEMBER = "simulation"
"""Name of the extra, signed JSON object in TCB info and QE identity."""


@unique
class Mark(Enum):
    """One place where simulation shows; the value says where, for people."""

    CPU_SVN = "report body: CPUSVN of Intel's SDK simulation mode"
    HEADER_USER_DATA = "quote header: user data"
    QE_AUTH_DATA = "signature data: QE authentication data"
    CERTIFICATE_NAMES = "certificates: subject and issuer names"
    CERTIFICATE_COMMENTS = "certificates: comment extension"
    FMSPC = "PCK certificate: FMSPC"
    PPID = "PCK certificate: PPID"
    PLATFORM_INSTANCE_ID = "PCK certificate: platform instance id"
    ADVISORY = "collateral: advisory on the levels that are up to date"
    COLLATERAL_MEMBER = "collateral: signed simulation object"
    QE_MRSIGNER = "QE report: MRSIGNER is not Intel's"


def has_simulated_name(name: x509.Name) -> bool:
    """Whether a distinguished name says, by itself, that it is simulated and not Intel's."""
    common_names = [a.value for a in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    organizations = [a.value for a in name.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
    countries = [a.value for a in name.get_attributes_for_oid(x509.NameOID.COUNTRY_NAME)]
    return (
        len(common_names) == 1
        and str(common_names[0]).startswith(COMMON_NAME_PREFIX)
        and str(common_names[0]).endswith(COMMON_NAME_SUFFIX)
        and organizations == [ORGANIZATION]
        and countries == [COUNTRY]
    )
