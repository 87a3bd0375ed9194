"""The kinds of trusted execution environment (TEE) that quotes and collateral are about."""

from enum import IntEnum


class TeeType(IntEnum):
    """Values of a quote's TEE type (Intel's sgx_quote_4.h)."""

    SGX = 0
    TDX = 0x81

    @property
    def qe_identity_id(self) -> str:
        """The `id` of the identity of the quoting enclave that makes the quotes (PCS API v4)."""
        return {TeeType.SGX: "QE", TeeType.TDX: "TD_QE"}[self]
