"""The meaning of each AESM error code, and what the user can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from confcom.aesm.error_code import AesmErrorCode as Code


@dataclass(frozen=True, slots=True)
class Advice:
    """Meaning and remedy as clauses without a full stop, for an error's `why` and `remedy`."""

    meaning: str
    remedy: str


_READ_LOG: Final = "read the log of the quote helper (or aesmd) on this node"
_WAIT: Final = "wait a few seconds and try again"
_DCAP: Final = "use the DCAP calls (InitQuoteEx, GetQuoteSizeEx, GetQuoteEx)"
_PROVISION: Final = (
    "give the quote helper /dev/sgx_provision (Kubernetes: resource sgx.intel.com/provision; a host: group sgx_prv, "
    "then restart it)"
)
_COLLATERAL: Final = (
    "check that this machine is registered and that the quote helper reaches its provisioning service (PCCS): "
    "pccs_url in sgx_default_qcnl.conf"
)

_ADVICE: Final[Mapping[int, Advice]] = MappingProxyType(
    {
        Code.SUCCESS: Advice("the call succeeded", "nothing is to be done"),
        Code.UNEXPECTED_ERROR: Advice(
            "the service failed without a specific number (often its provisioning service refused, or a "
            "required field was missing)",
            _READ_LOG,
        ),
        Code.NO_DEVICE_ERROR: Advice(
            "the service finds no SGX device",
            "check that this is an SGX node with SGX on in its BIOS, and that the service was given /dev/sgx_enclave",
        ),
        Code.PARAMETER_ERROR: Advice(
            "a parameter has the wrong size or value (the report is 432 bytes, qe_report_info 960, a key id at least "
            "256; the buffer must hold the quote)",
            "check the sizes that the client sends; ask GetQuoteSizeEx for the buffer's",
        ),
        Code.EPIDBLOB_ERROR: Advice("the platform's EPID blob is broken; EPID is retired", _DCAP),
        Code.EPID_REVOKED_ERROR: Advice("the platform's EPID group was revoked; EPID is retired", _DCAP),
        Code.GET_LICENSETOKEN_ERROR: Advice(
            "no launch token could be made", "launch without a token: processors with flexible launch control need none"
        ),
        Code.SESSION_INVALID: Advice("the platform services session does not exist", "start a new session"),
        Code.MAX_NUM_SESSION_REACHED: Advice("all platform services sessions are in use", "close sessions, or wait"),
        Code.PSDA_UNAVAILABLE: Advice(
            "Intel's platform services applet is not available", "do not use it: it is retired"
        ),
        Code.EPH_SESSION_FAILED: Advice(
            "no session with Intel's platform services applet", "do not use it: it is retired"
        ),
        Code.LONG_TERM_PAIRING_FAILED: Advice(
            "pairing with Intel's platform services failed", "do not use it: it is retired"
        ),
        Code.NETWORK_ERROR: Advice("the service could not reach its provisioning service (PCCS)", _COLLATERAL),
        Code.NETWORK_BUSY_ERROR: Advice("the provisioning service (PCCS) is busy", _WAIT),
        Code.PROXY_SETTING_ASSIST: Advice(
            "the service's proxy setting does not work", "set `proxy type` and `aesm proxy` in aesmd.conf"
        ),
        Code.FILE_ACCESS_ERROR: Advice(
            "the service could not read or write a file of its own",
            f"check its data directory's owner and space, and {_READ_LOG}",
        ),
        Code.SGX_PROVISION_FAILED: Advice("the platform could not be provisioned", _COLLATERAL),
        Code.SERVICE_STOPPED: Advice("the service is stopping", "try again when it has restarted"),
        Code.BUSY: Advice("the service has more requests than it can take", _WAIT),
        Code.BACKEND_SERVER_BUSY: Advice("Intel's provisioning server is busy", _WAIT),
        Code.UPDATE_AVAILABLE: Advice(
            "the platform software is older than the provisioning server asks for",
            "update it on this node, then try again",
        ),
        Code.OUT_OF_MEMORY_ERROR: Advice("the service ran out of memory", "raise the memory limit of the quote helper"),
        Code.MSG_ERROR: Advice("an answer of the provisioning service could not be read", _COLLATERAL),
        Code.THREAD_ERROR: Advice(
            "the service could not start a thread", "raise the process limit of the quote helper"
        ),
        Code.SGX_DEVICE_NOT_AVAILABLE: Advice(
            "the SGX device cannot be used now", "check that SGX is on in the BIOS, and restart the node"
        ),
        Code.ENABLE_SGX_DEVICE_FAILED: Advice("SGX could not be switched on by software", "switch it on in the BIOS"),
        Code.PLATFORM_INFO_BLOB_INVALID_SIG: Advice(
            "the platform info blob's signature is wrong; EPID is retired", _DCAP
        ),
        Code.KDF_MISMATCH: Advice("client and service derive keys in different ways; EPID is retired", _DCAP),
        Code.OUT_OF_EPC: Advice(
            "there is not enough enclave memory (EPC) for the quoting enclave",
            "free EPC: stop enclaves on this node, or set aside EPC for the quote helper",
        ),
        Code.SERVICE_UNAVAILABLE: Advice(
            "the service cannot do this now: it is still starting, or this kind of quoting is not installed (EPID "
            "calls are always answered so)",
            f"wait until the quote helper is ready and try again; if that does not help, {_READ_LOG}",
        ),
        Code.UNRECOGNIZED_PLATFORM: Advice("Intel's provisioning service does not know this platform", _COLLATERAL),
        Code.ECDSA_ID_MISMATCH: Advice(
            "the stored attestation key belongs to another platform or enclave version", "call InitQuoteEx again"
        ),
        Code.PATHNAME_BUFFER_OVERFLOW_ERROR: Advice(
            "a path of the service is too long", "install the quoting enclaves under a shorter path"
        ),
        Code.ERROR_STORED_KEY: Advice("the stored attestation key cannot be read", "call InitQuoteEx again"),
        Code.PUB_KEY_ID_MISMATCH: Advice(
            "the public key id is not that of the stored attestation key", "call InitQuoteEx again"
        ),
        Code.INVALID_PCE_SIG_SCHEME: Advice(
            "the provisioning certification enclave signs in a way that is not supported",
            "update the platform software on this node",
        ),
        Code.ATT_KEY_BLOB_ERROR: Advice("the attestation key's blob is broken", "call InitQuoteEx again"),
        Code.UNSUPPORTED_ATT_KEY_ID: Advice(
            "the service cannot use this attestation key; with Intel's aesmd this usually means that its quoting "
            "enclave could not be loaded, for want of provision access",
            _PROVISION,
        ),
        Code.UNSUPPORTED_LOADING_POLICY: Advice(
            "the quoting enclave's loading policy is not supported", "use the default policy"
        ),
        Code.INTERFACE_UNAVAILABLE: Advice(
            "this interface is not available", "update the platform software on this node"
        ),
        Code.PLATFORM_LIB_UNAVAILABLE: Advice(
            "no provider library for quotes is installed where the service runs",
            "install libsgx-dcap-default-qpl (or the cloud's own) beside the service",
        ),
        Code.ATT_KEY_NOT_INITIALIZED: Advice(
            "the attestation key is not ready, or the quoting enclave changed since InitQuoteEx",
            "call InitQuoteEx again, make a new report for the target info it returns, and ask for the quote again",
        ),
        Code.ATT_KEY_CERT_DATA_INVALID: Advice(
            "the certification data that the service was given is not valid", _COLLATERAL
        ),
        Code.NO_PLATFORM_CERT_DATA: Advice("there is no PCK certificate for this platform", _COLLATERAL),
        Code.ERROR_REPORT: Advice("the quoting enclave could not use the report", _READ_LOG),
        Code.ENCLAVE_LOST: Advice(
            "the quoting enclave was lost (after sleep, or when a virtual machine moved)",
            "try again: the service loads it again",
        ),
        Code.INVALID_REPORT: Advice(
            "the report was not made on this platform for this quoting enclave: its MAC is wrong",
            "make the report for the target info that InitQuoteEx returned just now, on this same platform",
        ),
        Code.ENCLAVE_LOAD_ERROR: Advice("the quoting enclave could not be loaded", f"{_PROVISION}; {_READ_LOG}"),
        Code.UNABLE_TO_GENERATE_QE_REPORT: Advice(
            "the quoting enclave could not make its own report", "check the target info inside qe_report_info"
        ),
        Code.KEY_CERTIFICATION_ERROR: Advice(
            "the attestation key could not be certified (the certificate may ask for a newer platform than this is)",
            _COLLATERAL,
        ),
        Code.CONFIG_UNSUPPORTED: Advice("this platform's configuration is not supported", _READ_LOG),
    }
)

_UNKNOWN: Final = Advice("Intel's documents do not list this number", _READ_LOG)


def advice_for(code: int) -> Advice:
    """Return the meaning and the remedy of an error code; undocumented codes get a general answer."""
    return _ADVICE.get(code, _UNKNOWN)


def describe(code: int) -> str:
    """Return the code with its name, as all messages show it: `30 (SERVICE_UNAVAILABLE)`."""
    try:
        return f"{code} ({Code(code).name})"
    except ValueError:
        return f"{code} (unknown AESM error)"
