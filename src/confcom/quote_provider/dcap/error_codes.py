"""Errors of Intel's DCAP libraries (quote3_error_t), and what AESM's clients and people get in their place.

Intel's own aesmd answers 1 (UNEXPECTED_ERROR) for half of the causes. Here clients get the most specific code that they
may know, and the message names the library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from confcom.aesm.error_code import AesmErrorCode as Aesm
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.dcap.frames import Call


class Quote3Error(IntEnum):
    """quote3_error_t, with Intel's names without their prefix SGX_QL_ (sgx_ql_lib_common.h)."""

    SUCCESS = 0
    ERROR_UNEXPECTED = 0xE001
    ERROR_INVALID_PARAMETER = 0xE002
    ERROR_OUT_OF_MEMORY = 0xE003
    ERROR_ECDSA_ID_MISMATCH = 0xE004
    PATHNAME_BUFFER_OVERFLOW_ERROR = 0xE005
    FILE_ACCESS_ERROR = 0xE006
    ERROR_STORED_KEY = 0xE007
    ERROR_PUB_KEY_ID_MISMATCH = 0xE008
    ERROR_INVALID_PCE_SIG_SCHEME = 0xE009
    ATT_KEY_BLOB_ERROR = 0xE00A
    UNSUPPORTED_ATT_KEY_ID = 0xE00B
    UNSUPPORTED_LOADING_POLICY = 0xE00C
    INTERFACE_UNAVAILABLE = 0xE00D
    PLATFORM_LIB_UNAVAILABLE = 0xE00E
    ATT_KEY_NOT_INITIALIZED = 0xE00F
    ATT_KEY_CERT_DATA_INVALID = 0xE010
    NO_PLATFORM_CERT_DATA = 0xE011
    OUT_OF_EPC = 0xE012
    ERROR_REPORT = 0xE013
    ENCLAVE_LOST = 0xE014
    INVALID_REPORT = 0xE015
    ENCLAVE_LOAD_ERROR = 0xE016
    UNABLE_TO_GENERATE_QE_REPORT = 0xE017
    KEY_CERTIFCATION_ERROR = 0xE018
    """Intel's spelling."""
    NETWORK_ERROR = 0xE019
    MESSAGE_ERROR = 0xE01A
    NO_QUOTE_COLLATERAL_DATA = 0xE01B
    QUOTE_CERTIFICATION_DATA_UNSUPPORTED = 0xE01C
    QUOTE_FORMAT_UNSUPPORTED = 0xE01D
    UNABLE_TO_GENERATE_REPORT = 0xE01E
    QE_REPORT_INVALID_SIGNATURE = 0xE01F
    QE_REPORT_UNSUPPORTED_FORMAT = 0xE020
    PCK_CERT_UNSUPPORTED_FORMAT = 0xE021
    PCK_CERT_CHAIN_ERROR = 0xE022
    TCBINFO_UNSUPPORTED_FORMAT = 0xE023
    TCBINFO_MISMATCH = 0xE024
    QEIDENTITY_UNSUPPORTED_FORMAT = 0xE025
    QEIDENTITY_MISMATCH = 0xE026
    TCB_OUT_OF_DATE = 0xE027
    TCB_OUT_OF_DATE_CONFIGURATION_NEEDED = 0xE028
    SGX_ENCLAVE_IDENTITY_OUT_OF_DATE = 0xE029
    SGX_ENCLAVE_REPORT_ISVSVN_OUT_OF_DATE = 0xE02A
    QE_IDENTITY_OUT_OF_DATE = 0xE02B
    SGX_TCB_INFO_EXPIRED = 0xE02C
    SGX_PCK_CERT_CHAIN_EXPIRED = 0xE02D
    SGX_CRL_EXPIRED = 0xE02E
    SGX_SIGNING_CERT_CHAIN_EXPIRED = 0xE02F
    SGX_ENCLAVE_IDENTITY_EXPIRED = 0xE030
    PCK_REVOKED = 0xE031
    TCB_REVOKED = 0xE032
    TCB_CONFIGURATION_NEEDED = 0xE033
    UNABLE_TO_GET_COLLATERAL = 0xE034
    ERROR_INVALID_PRIVILEGE = 0xE035
    NO_QVE_IDENTITY_DATA = 0xE037
    CRL_UNSUPPORTED_FORMAT = 0xE038
    QEIDENTITY_CHAIN_ERROR = 0xE039
    TCBINFO_CHAIN_ERROR = 0xE03A
    ERROR_QVL_QVE_MISMATCH = 0xE03B
    TCB_SW_HARDENING_NEEDED = 0xE03C
    TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED = 0xE03D
    UNSUPPORTED_MODE = 0xE03E
    NO_DEVICE = 0xE03F
    SERVICE_UNAVAILABLE = 0xE040
    NETWORK_FAILURE = 0xE041
    SERVICE_TIMEOUT = 0xE042
    ERROR_BUSY = 0xE043
    UNKNOWN_MESSAGE_RESPONSE = 0xE044
    PERSISTENT_STORAGE_ERROR = 0xE045
    ERROR_MESSAGE_PARSING_ERROR = 0xE046
    PLATFORM_UNKNOWN = 0xE047
    UNKNOWN_API_VERSION = 0xE048
    CERTS_UNAVAILABLE = 0xE049
    QVEIDENTITY_MISMATCH = 0xE050
    QVE_OUT_OF_DATE = 0xE051
    PSW_NOT_AVAILABLE = 0xE052
    COLLATERAL_VERSION_NOT_SUPPORTED = 0xE053
    TDX_MODULE_MISMATCH = 0xE060
    QEIDENTITY_NOT_FOUND = 0xE061
    TCBINFO_NOT_FOUND = 0xE062
    INTERNAL_SERVER_ERROR = 0xE063
    SUPPLEMENTAL_DATA_VERSION_NOT_SUPPORTED = 0xE064
    ROOT_CA_UNTRUSTED = 0xE065
    TCB_NOT_SUPPORTED = 0xE066
    CONFIG_INVALID_JSON = 0xE067
    RESULT_INVALID_SIGNATURE = 0xE068
    QAEIDENTITY_MISMATCH = 0xE070
    QAE_OUT_OF_DATE = 0xE071
    QUOTE_HASH_MISMATCH = 0xE072
    REPORT_DATA_MISMATCH = 0xE073


_E = Quote3Error

ENDS_THE_CHILD: Final = frozenset(
    {
        _E.OUT_OF_EPC,
        _E.ENCLAVE_LOST,
        _E.ENCLAVE_LOAD_ERROR,
        _E.ERROR_INVALID_PRIVILEGE,
        _E.ERROR_UNEXPECTED,
    }
)
"""After these, of any call, the libraries may stay in a state that only a new process ends: an enclave that was lost is
never loaded again (measured with Intel's code)."""

_AESM_CODES: Final[Mapping[int, Aesm]] = MappingProxyType(
    {
        _E.ERROR_INVALID_PARAMETER: Aesm.PARAMETER_ERROR,
        _E.ERROR_OUT_OF_MEMORY: Aesm.OUT_OF_MEMORY_ERROR,
        _E.ERROR_ECDSA_ID_MISMATCH: Aesm.ECDSA_ID_MISMATCH,
        _E.PATHNAME_BUFFER_OVERFLOW_ERROR: Aesm.PATHNAME_BUFFER_OVERFLOW_ERROR,
        _E.FILE_ACCESS_ERROR: Aesm.FILE_ACCESS_ERROR,
        _E.ERROR_STORED_KEY: Aesm.ERROR_STORED_KEY,
        _E.ERROR_PUB_KEY_ID_MISMATCH: Aesm.PUB_KEY_ID_MISMATCH,
        _E.ERROR_INVALID_PCE_SIG_SCHEME: Aesm.INVALID_PCE_SIG_SCHEME,
        _E.ATT_KEY_BLOB_ERROR: Aesm.ATT_KEY_BLOB_ERROR,
        _E.UNSUPPORTED_ATT_KEY_ID: Aesm.UNSUPPORTED_ATT_KEY_ID,
        _E.UNSUPPORTED_LOADING_POLICY: Aesm.UNSUPPORTED_LOADING_POLICY,
        _E.PLATFORM_LIB_UNAVAILABLE: Aesm.PLATFORM_LIB_UNAVAILABLE,
        _E.ATT_KEY_NOT_INITIALIZED: Aesm.ATT_KEY_NOT_INITIALIZED,
        _E.ATT_KEY_CERT_DATA_INVALID: Aesm.ATT_KEY_CERT_DATA_INVALID,
        _E.NO_PLATFORM_CERT_DATA: Aesm.NO_PLATFORM_CERT_DATA,
        _E.OUT_OF_EPC: Aesm.OUT_OF_EPC,
        _E.ERROR_REPORT: Aesm.ERROR_REPORT,
        _E.ENCLAVE_LOST: Aesm.ENCLAVE_LOST,
        _E.INVALID_REPORT: Aesm.INVALID_REPORT,
        _E.UNABLE_TO_GENERATE_QE_REPORT: Aesm.UNABLE_TO_GENERATE_QE_REPORT,
        _E.KEY_CERTIFCATION_ERROR: Aesm.KEY_CERTIFICATION_ERROR,
        _E.NETWORK_ERROR: Aesm.NETWORK_ERROR,
        _E.MESSAGE_ERROR: Aesm.MSG_ERROR,
        # From here on aesmd's answer is another, mostly 1; these tell clients more.
        _E.INTERFACE_UNAVAILABLE: Aesm.SERVICE_UNAVAILABLE,
        _E.ENCLAVE_LOAD_ERROR: Aesm.SERVICE_UNAVAILABLE,
        _E.ERROR_INVALID_PRIVILEGE: Aesm.SERVICE_UNAVAILABLE,
        _E.NO_DEVICE: Aesm.SERVICE_UNAVAILABLE,
        _E.SERVICE_UNAVAILABLE: Aesm.NETWORK_ERROR,
        _E.SERVICE_TIMEOUT: Aesm.NETWORK_ERROR,
        _E.PLATFORM_UNKNOWN: Aesm.NO_PLATFORM_CERT_DATA,
        _E.CERTS_UNAVAILABLE: Aesm.NO_PLATFORM_CERT_DATA,
    }
)

_READ_LOG: Final = "read the helper's log on this node, which has the lines of the DCAP libraries"
_DEVICES: Final = (
    "check that the helper's container has /dev/sgx_enclave and /dev/sgx_provision (its group, sgx_prv), and the "
    "enclaves of Intel's packages libsgx-ae-pce, libsgx-ae-qe3 and libsgx-ae-id-enclave"
)
_EPC: Final = "give the helper more EPC: the three enclaves need 3 MiB"
_PCCS: Final = "check pccs_url in sgx_default_qcnl.conf, DNS, proxy and egress rules"
_RETRY: Final = "call InitQuoteEx again and make a new report"

_CAUSES: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        _E.ERROR_UNEXPECTED: ("an enclave crashed, or the answer of PCCS cannot be used", _READ_LOG),
        _E.ERROR_OUT_OF_MEMORY: ("there is no memory, or the driver has no EPC left", _EPC),
        _E.INTERFACE_UNAVAILABLE: ("the PCE cannot be loaded: no SGX, no access to its devices, or no EPC", _DEVICES),
        _E.ATT_KEY_NOT_INITIALIZED: ("the attestation key is not certified for this TCB", _RETRY),
        _E.NO_PLATFORM_CERT_DATA: ("PCCS has no PCK certificate for this platform", "register the platform at PCCS"),
        _E.OUT_OF_EPC: ("an enclave does not fit into the EPC", _EPC),
        _E.ENCLAVE_LOST: ("the quoting enclave was lost, as after the machine was suspended", _READ_LOG),
        _E.INVALID_REPORT: ("the report was made for another enclave", _RETRY),
        _E.ENCLAVE_LOAD_ERROR: ("the quoting enclave or the ID enclave cannot be loaded", _DEVICES),
        _E.KEY_CERTIFCATION_ERROR: (
            "the TCB of the PCK certificate is above that of the PCE",
            "update Intel's package libsgx-ae-pce",
        ),
        _E.NETWORK_ERROR: ("PCCS cannot be reached, or sgx_default_qcnl.conf is missing", _PCCS),
        _E.ERROR_INVALID_PRIVILEGE: ("an enclave may not use the provisioning key", _DEVICES),
        _E.NO_DEVICE: ("there is no SGX device", _DEVICES),
        _E.SERVICE_UNAVAILABLE: ("PCCS is overloaded (503)", "check PCCS; it may not reach Intel's service"),
        _E.SERVICE_TIMEOUT: ("PCCS did not answer in time", _PCCS),
        _E.UNKNOWN_MESSAGE_RESPONSE: ("PCCS refused the request (400, 401, 500)", "read the log of PCCS"),
        _E.PLATFORM_UNKNOWN: ("PCCS does not know this platform (461)", "register the platform at PCCS"),
        _E.CERTS_UNAVAILABLE: (
            "PCCS has no PCK certificate for this platform's TCB (462)",
            "refresh PCCS after a microcode update",
        ),
        _E.ROOT_CA_UNTRUSTED: (
            "the TLS certificate of PCCS has an untrusted root",
            "add its root to /etc/ssl/certs/ca-certificates.crt, or set use_secure_cert to false",
        ),
        _E.CONFIG_INVALID_JSON: ("sgx_default_qcnl.conf is invalid", "correct sgx_default_qcnl.conf: it must be JSON"),
    }
)


def describe(status: int) -> str:
    """Return number and name of an error: `0xe019 (SGX_QL_NETWORK_ERROR)`."""
    try:
        return f"0x{status:04x} (SGX_QL_{Quote3Error(status).name})"
    except ValueError:
        return f"0x{status:04x} (unknown)"


def aesm_code(status: int) -> Aesm:
    """Return the AESM code that clients get for an error."""
    return _AESM_CODES.get(status, Aesm.UNEXPECTED_ERROR)


def refusal(call: Call, status: int) -> QuoteProviderError:
    """Return the error for a call that the library refused."""
    why, remedy = _CAUSES.get(status, ("", _READ_LOG))
    return QuoteProviderError(
        aesm_code(status),
        f"Intel's DCAP library refused {call.function} with {describe(status)}",
        why=why,
        remedy=remedy,
    )


def ends_child(call: Call, status: int) -> bool:
    """Return whether no later call of this process can be trusted.

    After an init that failed, the libraries may go on with an ID that they never read, and report success.
    """
    return status in ENDS_THE_CHILD or (call is Call.INIT and status != Quote3Error.SUCCESS)
