"""Policies for quotes of SGX enclaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Unpack

from confcom.errors import WrongTypeError, WrongValueError
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import binary, number
from confcom.verify.policy import Policy, SharedDemands, collection, set_fields
from confcom.verify.verdict import SgxClaims

MEASUREMENT_SIZE = 32
"""Bytes of MRENCLAVE and of MRSIGNER, which are SHA-256 digests (SDM, "SECS")."""
CONFIG_ID_SIZE = 64
"""Bytes of CONFIGID (SDM, "REPORT")."""
KSS_ID_SIZE = 16
"""Bytes of ISVEXTPRODID and of ISVFAMILYID (SDM, "REPORT")."""
MAX_UINT16 = 0xFFFF
"""Greatest ISVPRODID, ISVSVN and CONFIGSVN, which are 16-bit fields of the report body (SDM, "REPORT")."""


@dataclass(frozen=True, slots=True, init=False)
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

    mr_enclave: bytes | None
    mr_signer: bytes | None
    isv_prod_id: int | None
    min_isv_svn: int | None

    def __init__(
        self,
        *,
        mr_enclave: bytes | str | None = None,
        mr_signer: bytes | str | None = None,
        isv_prod_id: int | None = None,
        min_isv_svn: int | None = None,
    ) -> None:
        set_fields(
            self,
            mr_enclave=binary("the identity's mr_enclave", mr_enclave, MEASUREMENT_SIZE),
            mr_signer=binary("the identity's mr_signer", mr_signer, MEASUREMENT_SIZE),
            isv_prod_id=number("the identity's isv_prod_id", isv_prod_id, MAX_UINT16),
            min_isv_svn=number("the identity's min_isv_svn", min_isv_svn, MAX_UINT16),
        )
        if mr_enclave is None and mr_signer is None:
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


@dataclass(frozen=True, slots=True, init=False)
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
        shared: the arguments of `Policy`, such as `report_data`.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value. The constructor refuses the value, so that the
            mistake does not later look like a bad quote.
        WrongTypeError: a value has the wrong type.
    """

    mr_enclave: bytes | None
    mr_signer: bytes | None
    isv_prod_id: int | None
    min_isv_svn: int | None
    config_id: bytes | None
    min_config_svn: int | None
    isv_ext_prod_id: bytes | None
    isv_family_id: bytes | None
    identities: tuple[Identity, ...] | None

    def __init__(
        self,
        *,
        mr_enclave: bytes | str | None = None,
        mr_signer: bytes | str | None = None,
        isv_prod_id: int | None = None,
        min_isv_svn: int | None = None,
        config_id: bytes | str | None = None,
        min_config_svn: int | None = None,
        isv_ext_prod_id: bytes | str | None = None,
        isv_family_id: bytes | str | None = None,
        identities: Iterable[Identity] | None = None,
        **shared: Unpack[SharedDemands],
    ) -> None:
        Policy.__init__(self, **shared)
        set_fields(
            self,
            mr_enclave=binary("the policy's mr_enclave", mr_enclave, MEASUREMENT_SIZE),
            mr_signer=binary("the policy's mr_signer", mr_signer, MEASUREMENT_SIZE),
            isv_prod_id=number("the policy's isv_prod_id", isv_prod_id, MAX_UINT16),
            min_isv_svn=number("the policy's min_isv_svn", min_isv_svn, MAX_UINT16),
            config_id=binary("the policy's config_id", config_id, CONFIG_ID_SIZE),
            min_config_svn=number("the policy's min_config_svn", min_config_svn, MAX_UINT16),
            isv_ext_prod_id=binary("the policy's isv_ext_prod_id", isv_ext_prod_id, KSS_ID_SIZE),
            isv_family_id=binary("the policy's isv_family_id", isv_family_id, KSS_ID_SIZE),
            identities=None if identities is None else tuple(map(_identity, collection("identities", identities))),
        )

    @property
    def tee(self) -> TeeType:
        """The TEE whose quotes the policy is about: SGX."""
        return TeeType.SGX

    @property
    def names_identity(self) -> bool:
        """Whether the policy sets `mr_enclave`, `mr_signer` or `identities`, even if `identities` is empty."""
        return any(value is not None for value in (self.mr_enclave, self.mr_signer, self.identities))


def _identity(value: object) -> Identity:
    if not isinstance(value, Identity):
        raise WrongTypeError("an identity", "an Identity", value)
    return value
