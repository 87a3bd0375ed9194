"""What aesmd's refusals usually mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import AesmError
from confcom.quote_provider.base import QuoteProviderError

READ_LOG: Final = "read aesmd's log on this node"
_REMEDIES: Final[Mapping[int, str]] = MappingProxyType(
    {
        AesmErrorCode.UNEXPECTED_ERROR: "read aesmd's log: PCCS may not know the platform (0xe047), have no "
        "certificate for its TCB (0xe049), or have an untrusted TLS certificate (0xe065); or the PCE or the ID enclave "
        "cannot be loaded (/dev/sgx_enclave, /dev/sgx_provision, EPC)",
        AesmErrorCode.NETWORK_ERROR: "check that aesmd reaches PCCS: pccs_url in its sgx_default_qcnl.conf, DNS, proxy "
        "and egress rules",
        AesmErrorCode.OUT_OF_EPC: "give aesmd more EPC: its three enclaves need 3 MiB",
        AesmErrorCode.SERVICE_UNAVAILABLE: "check that aesmd's container has /dev/sgx_enclave, /dev/sgx_provision (its "
        "group, sgx_prv) and EPC, and that it is started with --supported_attestation_types=ECDSA",
        AesmErrorCode.UNSUPPORTED_ATT_KEY_ID: "check that aesmd's container has /dev/sgx_enclave, /dev/sgx_provision "
        "(its group, sgx_prv) and EPC: without these it does not load the quoting enclave",
        AesmErrorCode.ENCLAVE_LOST: "restart aesmd: its quoting enclave was lost, as after the machine was suspended, "
        "and it never loads another one",
        AesmErrorCode.KEY_CERTIFICATION_ERROR: "update Intel's package libsgx-ae-pce: the TCB of the PCK certificate "
        "is above that of the PCE",
        AesmErrorCode.NO_PLATFORM_CERT_DATA: "register the platform: PCCS has no PCK certificate for it",
    }
)
"""What to do about aesmd's errors, by their usual causes."""


def refusal(error: AesmError) -> QuoteProviderError:
    """Return the error for a call that aesmd refused."""
    try:
        code = AesmErrorCode(error.code)
    except ValueError:
        code = AesmErrorCode.UNEXPECTED_ERROR
    remedy = _REMEDIES.get(code, READ_LOG)
    return QuoteProviderError(code, error.what, error_code=error.error_code, why=error.why, remedy=remedy)
