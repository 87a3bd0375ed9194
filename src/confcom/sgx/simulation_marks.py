"""Marks that distinguish quotes, certificates and collateral of a simulated platform from Intel's.

A mark can only lower trust: a forger can omit marks, and gains nothing by adding marks. Only a signature chain to
Intel's root key makes a quote genuine. The marks are defined in this package because both the simulated platform
(which writes them) and the verifier (which looks for them) import this package.
"""

from enum import StrEnum, unique

from cryptography import x509

from confcom.sgx.certificates import common_name

SIMULATION_CPU_SVNS = (
    bytes.fromhex("4820f3376ae6b2f2034d3b7a4b48a778"),
    bytes.fromhex("5339ae8c93ae8f3ce432db924d0f0733"),
    bytes.fromhex("64ea4f3fa0030c36383c322d4f3a8d4f"),
)
"""CPUSVN of Intel's SDK simulation mode: default, upgraded, downgraded (sdk/simulation/tinst/deriv.h).

This is the only mark in a report body. The SDK sets it, not this project; no processor reports these values.
"""

HEADER_USER_DATA = b"SIMULATED-NOT-INTEL!"
"""The quote header's user_data (20 bytes), where Intel's QE puts its QE_ID; verifiers ignore the field."""

QE_AUTH_DATA = b"SIMULATED-SGX-NOT-INTEL-HARDWARE"
"""QE authentication data; dcap-qvl accepts only 32 bytes, and Intel's QE uses the bytes 00 01 ... 1f."""

FMSPC_PREFIX = b"SIMS"
"""First bytes of the FMSPC (family, model, stepping, platform type, custom SKU; 6 bytes), the key of TCB info."""

FMSPC = b"SIMSGX"
"""The FMSPC of all simulated nodes; only tests have simulated platforms of other kinds."""

PLATFORM_ID_PREFIX = b"SIMULATED-"
"""First bytes of the PPID and of the platform instance id in the PCK certificate (16 bytes each); the rest
differs by node."""

COMMON_NAME_PREFIX = "SIMULATED "
COMMON_NAME_SUFFIX = " - NOT INTEL"
ORGANIZATION = "confcom simulated platform - not Intel Corporation"
COUNTRY = "ZZ"
"""A code that ISO 3166 reserves for private use; no country has this code."""

NS_COMMENT_OID = x509.ObjectIdentifier("2.16.840.1.113730.1.13")
"""Netscape's comment extension: tools print it, and no verifier rejects it, because it is not critical."""

NS_COMMENT = "Made by a simulated SGX platform. No hardware protects anything attested with it. Not by Intel."

ADVISORY_ID = "SIMULATED-NOT-GENUINE-INTEL"
"""Advisory of all TCB levels in TCB info and QE identity. dcap-qvl reports it, and policies can reject it."""

SIMULATION_MEMBER = "simulation"
"""Name of an additional JSON object in TCB info and QE identity; the documents' signatures cover it."""


@unique
class Mark(StrEnum):
    """A place that can carry a mark of simulation; the member's value describes the place for users."""

    CPU_SVN = "report body: CPUSVN of Intel's SDK simulation mode"
    HEADER_USER_DATA = "quote header: user data"
    QE_AUTH_DATA = "signature data: QE authentication data"
    CERTIFICATE_NAMES = "certificates: subject and issuer names"
    CERTIFICATE_COMMENTS = "certificates: comment extension"
    FMSPC = "PCK certificate: FMSPC"
    PPID = "PCK certificate: PPID"
    PLATFORM_INSTANCE_ID = "PCK certificate: platform instance id"
    ADVISORY = f"collateral: advisory {ADVISORY_ID}"
    COLLATERAL_MEMBER = "collateral: signed simulation object"
    QE_MRSIGNER = "QE report: MRSIGNER is not Intel's"


def has_simulated_name(name: x509.Name) -> bool:
    """Return whether a distinguished name says that the platform is simulated and not Intel's."""
    organizations = [a.value for a in name.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
    countries = [a.value for a in name.get_attributes_for_oid(x509.NameOID.COUNTRY_NAME)]
    return (
        common_name(name).startswith(COMMON_NAME_PREFIX)
        and common_name(name).endswith(COMMON_NAME_SUFFIX)
        and organizations == [ORGANIZATION]
        and countries == [COUNTRY]
    )


def has_comment(certificate: x509.Certificate) -> bool:
    return any(extension.oid == NS_COMMENT_OID for extension in certificate.extensions)


def root_is_marked(root: x509.Certificate) -> bool:
    return has_simulated_name(root.subject) and has_comment(root)
