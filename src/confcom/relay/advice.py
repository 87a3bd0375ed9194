"""Remedies for aesmd's errors, chosen for the errors' usual causes."""

from collections.abc import Mapping
from typing import Final

from confcom.aesm.error_code import AesmErrorCode

READ_LOG: Final = "read aesmd's log on this node"
NO_ANSWER: Final = (
    f"{READ_LOG}, and check that PCCS answers: aesmd waits for it without a limit, and logs nothing meanwhile"
)
_DEVICES: Final = (
    "check that aesmd's container has /dev/sgx_enclave, /dev/sgx_provision (its group, sgx_prv) and EPC: without these "
    "it does not load the quoting enclave"
)

REMEDIES: Final[Mapping[int, str]] = {
    AesmErrorCode.UNEXPECTED_ERROR: "read aesmd's log: PCCS may refuse (0xe044), be overloaded (0xe040), not know "
    "the platform (0xe047), have no certificate for its TCB (0xe049), or have an untrusted TLS certificate "
    "(0xe065); or the PCE or the ID enclave cannot be loaded (/dev/sgx_enclave, /dev/sgx_provision, EPC); if the "
    "log says nothing, the certificate's TCB may be above the PCE's (E018): update Intel's package libsgx-ae-pce; "
    "or the quoting enclave has crashed: restart aesmd",
    AesmErrorCode.NETWORK_ERROR: "check that aesmd reaches PCCS, and that PCCS does not refuse (403): pccs_url in "
    "its sgx_default_qcnl.conf, or local_pck_url where it is set, which is asked first; DNS, proxy, egress rules",
    AesmErrorCode.OUT_OF_EPC: "give aesmd more EPC: its three enclaves need 3 MiB",
    AesmErrorCode.SERVICE_UNAVAILABLE: "if aesmd was not just stopped, install Intel's package "
    "libsgx-aesm-quote-ex-plugin beside it, without which it makes no quotes; devices and EPC are not the cause",
    AesmErrorCode.UNSUPPORTED_ATT_KEY_ID: _DEVICES,
    AesmErrorCode.ENCLAVE_LOST: "restart aesmd: an enclave was lost, as after the machine was suspended, and aesmd "
    "never loads another one",
    AesmErrorCode.ENCLAVE_LOAD_ERROR: "install Intel's package libsgx-ae-id-enclave anew: its enclave, the ID "
    "enclave, could not be loaded",
    AesmErrorCode.NO_PLATFORM_CERT_DATA: "register the platform: PCCS has no PCK certificate for it; if aesmd's "
    "log has `p_sgx_get_quote_config returned NULL`, another program than PCCS answers at pccs_url",
}
