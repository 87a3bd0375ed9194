"""AESM's error codes from Intel's aesm_error.h, with the meaning of each code and the user's remedy."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class AesmErrorCode(IntEnum):
    """AESM's error numbers (aesm_error_t of Intel's aesm_error.h)."""

    SUCCESS = 0
    UNEXPECTED_ERROR = 1
    NO_DEVICE_ERROR = 2
    PARAMETER_ERROR = 3
    EPIDBLOB_ERROR = 4
    EPID_REVOKED_ERROR = 5
    GET_LICENSETOKEN_ERROR = 6
    SESSION_INVALID = 7
    MAX_NUM_SESSION_REACHED = 8
    PSDA_UNAVAILABLE = 9
    EPH_SESSION_FAILED = 10
    LONG_TERM_PAIRING_FAILED = 11
    NETWORK_ERROR = 12
    NETWORK_BUSY_ERROR = 13
    PROXY_SETTING_ASSIST = 14
    FILE_ACCESS_ERROR = 15
    SGX_PROVISION_FAILED = 16
    SERVICE_STOPPED = 17
    BUSY = 18
    BACKEND_SERVER_BUSY = 19
    UPDATE_AVAILABLE = 20
    OUT_OF_MEMORY_ERROR = 21
    MSG_ERROR = 22
    THREAD_ERROR = 23
    SGX_DEVICE_NOT_AVAILABLE = 24
    ENABLE_SGX_DEVICE_FAILED = 25
    PLATFORM_INFO_BLOB_INVALID_SIG = 26
    KDF_MISMATCH = 28
    OUT_OF_EPC = 29
    SERVICE_UNAVAILABLE = 30
    UNRECOGNIZED_PLATFORM = 31
    ECDSA_ID_MISMATCH = 32
    PATHNAME_BUFFER_OVERFLOW_ERROR = 33
    ERROR_STORED_KEY = 34
    PUB_KEY_ID_MISMATCH = 35
    INVALID_PCE_SIG_SCHEME = 36
    ATT_KEY_BLOB_ERROR = 37
    UNSUPPORTED_ATT_KEY_ID = 38
    UNSUPPORTED_LOADING_POLICY = 39
    INTERFACE_UNAVAILABLE = 40
    PLATFORM_LIB_UNAVAILABLE = 41
    ATT_KEY_NOT_INITIALIZED = 42
    ATT_KEY_CERT_DATA_INVALID = 43
    NO_PLATFORM_CERT_DATA = 44
    ERROR_REPORT = 45
    ENCLAVE_LOST = 46
    INVALID_REPORT = 47
    ENCLAVE_LOAD_ERROR = 48
    UNABLE_TO_GENERATE_QE_REPORT = 49
    KEY_CERTIFICATION_ERROR = 50
    CONFIG_UNSUPPORTED = 51


Code = AesmErrorCode


@dataclass(frozen=True, slots=True)
class Advice:
    """The meaning and the remedy that one or more error numbers share, as clauses without a full stop."""

    numbers: tuple[Code, ...]
    meaning: str
    remedy: str
    name: str = ""
    """The name in the stable code of all these numbers; if empty, the first number's name is used."""

    @property
    def error_code(self) -> str:
        """The stable code, such as `aesm-busy`."""
        return f"aesm-{self.name or self.numbers[0].name.lower().replace('_', '-')}"


_READ_LOG: Final = "read the log of the quote helper (or aesmd) on this node"
_PROVISION: Final = (
    "give the quote helper EPC and /dev/sgx_provision (Kubernetes: resource sgx.intel.com/provision; a host: group "
    "sgx_prv, then restart it)"
)
_COLLATERAL: Final = (
    "check that this machine is registered and that the quote helper reaches its provisioning service (PCCS): "
    "pccs_url, or local_pck_url, in sgx_default_qcnl.conf"
)

_ADVICE: Final = (
    Advice((Code.SUCCESS,), "the call succeeded", "nothing is to be done"),
    Advice(
        (Code.UNEXPECTED_ERROR, Code.ERROR_REPORT, Code.CONFIG_UNSUPPORTED),
        "the service failed without a specific cause (often its provisioning service refused, or a required field was "
        "missing)",
        _READ_LOG,
    ),
    Advice(
        (Code.NO_DEVICE_ERROR, Code.SGX_DEVICE_NOT_AVAILABLE, Code.ENABLE_SGX_DEVICE_FAILED),
        "the service finds no SGX device that it can use",
        "check that this is an SGX node with SGX on in its BIOS, and that the service was given /dev/sgx_enclave",
    ),
    Advice(
        (Code.PARAMETER_ERROR,),
        "a parameter has the wrong size or value (the report is 432 bytes, qe_report_info 960, a key id at least "
        "256; the buffer must hold the quote)",
        "check the sizes that the client sends; ask GetQuoteSizeEx for the buffer's",
    ),
    Advice(
        (
            Code.EPIDBLOB_ERROR,
            Code.EPID_REVOKED_ERROR,
            Code.GET_LICENSETOKEN_ERROR,
            Code.SESSION_INVALID,
            Code.MAX_NUM_SESSION_REACHED,
            Code.PSDA_UNAVAILABLE,
            Code.EPH_SESSION_FAILED,
            Code.LONG_TERM_PAIRING_FAILED,
            Code.PLATFORM_INFO_BLOB_INVALID_SIG,
            Code.KDF_MISMATCH,
        ),
        "a call for EPID, launch tokens or Intel's platform services failed, all of which are retired",
        "use the DCAP calls (InitQuoteEx, GetQuoteSizeEx, GetQuoteEx)",
        "retired-service",
    ),
    Advice(
        (Code.NETWORK_ERROR, Code.SGX_PROVISION_FAILED, Code.MSG_ERROR),
        "the service could not reach its provisioning service (PCCS), was refused by it, or could not use its answer",
        _COLLATERAL,
    ),
    Advice(
        (Code.BUSY, Code.NETWORK_BUSY_ERROR, Code.BACKEND_SERVER_BUSY),
        "the service, or its provisioning service (PCCS), has more requests than it can take",
        "wait a few seconds and try again",
    ),
    Advice(
        (Code.PROXY_SETTING_ASSIST,),
        "the service's proxy setting does not work",
        "set `proxy type` and `aesm proxy` in aesmd.conf",
    ),
    Advice(
        (Code.FILE_ACCESS_ERROR,),
        "the service could not read or write a file of its own",
        f"check its data directory's owner and space, and {_READ_LOG}",
    ),
    Advice((Code.SERVICE_STOPPED,), "the service is stopping", "try again when it has restarted"),
    Advice((Code.OUT_OF_MEMORY_ERROR,), "the service ran out of memory", "raise the memory limit of the quote helper"),
    Advice((Code.THREAD_ERROR,), "the service could not start a thread", "raise the process limit of the quote helper"),
    Advice(
        (Code.OUT_OF_EPC,),
        "there is not enough enclave memory (EPC) for the quoting enclave",
        "free EPC: stop enclaves on this node, or set aside EPC for the quote helper",
    ),
    Advice(
        (Code.SERVICE_UNAVAILABLE,),
        "the service cannot do this now: it is still starting, or this kind of quoting is not installed (EPID "
        "calls are always answered so)",
        f"wait until the quote helper is ready and try again; if that does not help, {_READ_LOG}",
    ),
    Advice(
        (Code.PATHNAME_BUFFER_OVERFLOW_ERROR,),
        "a path of the service is too long",
        "install the quoting enclaves under a shorter path",
    ),
    Advice(
        (Code.ERROR_STORED_KEY, Code.ECDSA_ID_MISMATCH, Code.PUB_KEY_ID_MISMATCH, Code.ATT_KEY_BLOB_ERROR),
        "the stored attestation key is broken, or of another platform or enclave version",
        "call InitQuoteEx again",
    ),
    Advice(
        (Code.UPDATE_AVAILABLE, Code.INVALID_PCE_SIG_SCHEME, Code.INTERFACE_UNAVAILABLE),
        "the platform software is older than its enclaves or the provisioning service need",
        "update it on this node, then try again",
    ),
    Advice(
        (Code.UNSUPPORTED_ATT_KEY_ID,),
        "the service cannot use this attestation key; with Intel's aesmd this usually means that its quoting "
        "enclave could not be loaded, for want of EPC or of provision access",
        _PROVISION,
    ),
    Advice(
        (Code.UNSUPPORTED_LOADING_POLICY,),
        "the quoting enclave's loading policy is not supported",
        "use the default policy",
    ),
    Advice(
        (Code.PLATFORM_LIB_UNAVAILABLE,),
        "no provider library for quotes is installed where the service runs",
        "install libsgx-dcap-default-qpl (or the cloud's own) beside the service",
    ),
    Advice(
        (Code.ATT_KEY_NOT_INITIALIZED,),
        "the attestation key is not ready, or the quoting enclave changed since InitQuoteEx",
        "call InitQuoteEx again, make a new report for the target info it returns, and ask for the quote again",
    ),
    Advice(
        (
            Code.NO_PLATFORM_CERT_DATA,
            Code.UNRECOGNIZED_PLATFORM,
            Code.ATT_KEY_CERT_DATA_INVALID,
            Code.KEY_CERTIFICATION_ERROR,
        ),
        "there is no PCK certificate for this platform, or none that fits it (it may ask for a newer platform)",
        _COLLATERAL,
    ),
    Advice(
        (Code.ENCLAVE_LOST,),
        "the quoting enclave was lost (after sleep, or when a virtual machine moved)",
        "try again: the quote helper has aesmd restarted; without a quote helper, restart aesmd",
    ),
    Advice(
        (Code.INVALID_REPORT,),
        "the report was not made on this platform for this quoting enclave: its MAC is wrong",
        "make the report for the target info that InitQuoteEx returned just now, on this same platform",
    ),
    Advice(
        (Code.ENCLAVE_LOAD_ERROR,),
        "an enclave could not be loaded; with Intel's aesmd, the ID enclave",
        f"install Intel's package libsgx-ae-id-enclave where the service runs; {_READ_LOG}",
    ),
    Advice(
        (Code.UNABLE_TO_GENERATE_QE_REPORT,),
        "the quoting enclave could not make its own report",
        "check the target info inside qe_report_info",
    ),
)
_BY_NUMBER: Final[Mapping[int, Advice]] = {number: advice for advice in _ADVICE for number in advice.numbers}
_UNKNOWN: Final = Advice((), "Intel's documents do not list this number", _READ_LOG, "unknown")


def advice_for(number: int) -> Advice:
    """Return the meaning and the remedy of a number; undocumented numbers get general advice."""
    return _BY_NUMBER.get(number, _UNKNOWN)


def code_of(number: int) -> str:
    """Return a number's stable code: `aesm-busy` for 18, `aesm-unknown` for an undocumented number."""
    return advice_for(number).error_code


def describe(number: int) -> str:
    """Return the number with its name, as all messages show them: `30 (SERVICE_UNAVAILABLE)`."""
    try:
        return f"{number} ({Code(number).name})"
    except ValueError:
        return f"{number} (unknown AESM error)"
