"""Policies for quotes of SGX enclaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from confcom.errors import WrongValueError
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import Argument, Binary, bounded, check_arguments, sized, tuple_of
from confcom.verify.policy import Policy
from confcom.verify.verdict import SgxClaims

MEASUREMENT_SIZE = 32
"""Bytes of MRENCLAVE and of MRSIGNER, which are SHA-256 digests (SDM, "SECS")."""
CONFIG_ID_SIZE = 64
"""Bytes of CONFIGID (SDM, "REPORT")."""
KSS_ID_SIZE = 16
"""Bytes of ISVEXTPRODID and of ISVFAMILYID (SDM, "REPORT")."""
MAX_UINT16 = 0xFFFF
"""Greatest ISVPRODID, ISVSVN and CONFIGSVN, which are 16-bit fields of the report body (SDM, "REPORT")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An accepted enclave, named by its measurement (mr_enclave), by its signer (mr_signer), or by both.

    Args:
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: 0 to 65,535.
        min_isv_svn: 0 to 65,535, the lowest that is accepted.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value, or neither `mr_enclave` nor `mr_signer` is given.
    """

    mr_enclave: Binary = sized(MEASUREMENT_SIZE)
    mr_signer: Binary = sized(MEASUREMENT_SIZE)
    isv_prod_id: int | None = bounded(MAX_UINT16)
    min_isv_svn: int | None = bounded(MAX_UINT16)

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.mr_enclave is None and self.mr_signer is None:
            raise WrongValueError(
                "an identity names neither mr_enclave nor mr_signer",
                why="any enclave would fit, even an attacker's",
                remedy="give it one of these",
            )

    def fits(self, claims: SgxClaims) -> bool:
        """Return whether the claims fit this identity."""
        return (
            self.mr_enclave in {None, claims.mr_enclave}
            and self.mr_signer in {None, claims.mr_signer}
            and self.isv_prod_id in {None, claims.isv_prod_id}
            and claims.isv_svn >= (self.min_isv_svn or 0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxPolicy(Policy[SgxClaims]):
    """A relying party's demands on SGX quotes. Without arguments, a policy demands nothing and verifies no quote.

    A quote can be verified only if the policy names an identity (`mr_enclave`, `mr_signer` or `identities`)
    and `report_data`. Without an identity any enclave would be accepted; without report data an old quote
    could be replayed.

    Args:
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: 0 to 65,535.
        min_isv_svn: 0 to 65,535, the lowest that is accepted.
        config_id: CONFIGID, 64 bytes: the configuration that the enclave was started with. CONFIGID and the next three
            are zero in enclaves without Key Separation and Sharing (SDM, "Key Separation and Sharing").
        min_config_svn: CONFIGSVN, 0 to 65,535, the lowest that is accepted.
        isv_ext_prod_id: ISVEXTPRODID, 16 bytes.
        isv_family_id: ISVFAMILYID, 16 bytes.
        identities: the accepted enclaves; a quote must fit one of these, and also the demands above. None
            means that only the demands above apply; an empty collection accepts no enclave.

    Further arguments, such as `report_data`, and the errors are those of `Policy`. Bytes may also be given as
    hexadecimal text.
    """

    mr_enclave: Binary = sized(MEASUREMENT_SIZE)
    mr_signer: Binary = sized(MEASUREMENT_SIZE)
    isv_prod_id: int | None = bounded(MAX_UINT16)
    min_isv_svn: int | None = bounded(MAX_UINT16)
    config_id: Binary = sized(CONFIG_ID_SIZE)
    min_config_svn: int | None = bounded(MAX_UINT16)
    isv_ext_prod_id: Binary = sized(KSS_ID_SIZE)
    isv_family_id: Binary = sized(KSS_ID_SIZE)
    identities: Argument[Iterable[Identity] | None, tuple[Identity, ...] | None] = tuple_of(Identity)

    tee: ClassVar = TeeType.SGX
    _IDENTITY: ClassVar = ("mr_enclave", "mr_signer", "identities")
