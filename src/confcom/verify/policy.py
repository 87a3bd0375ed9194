"""What a relying party demands of a quote, beyond that it is authentic."""

from __future__ import annotations

from dataclasses import dataclass

from confcom.errors import MalformedError, SettingsError
from confcom.sgx.report import REPORT_DATA_SIZE, report_data_from
from confcom.sgx.tcb import TcbStatus

MEASUREMENT_SIZE = 32
"""MRENCLAVE and MRSIGNER are SHA-256 digests (SDM, "SECS")."""

MAX_UINT16 = 0xFFFF
"""ISVPRODID and ISVSVN are 16-bit fields of the report body (SDM, "REPORT")."""


def pad_report_data(data: bytes) -> bytes:
    """Extend report data to its 64 bytes with zeros, as enclaves do with a shorter value such as a hash.

    Raises:
        SettingsError: longer than 64 bytes, or empty.
    """
    try:
        return report_data_from(data)
    except MalformedError as error:
        raise SettingsError(f"expected {error.what}", why=error.why, remedy=error.remedy) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A relying party's demands. The default demands nothing and therefore authorises nothing.

    A quote can be verified only if the policy names an identity (`mr_enclave` or `mr_signer`, 32 bytes each) and
    `report_data` (64 bytes): without the first any enclave would do, without the second any old quote would.
    `allow_debug` takes effect on simulated platforms only.
    """

    mr_enclave: bytes | None = None
    mr_signer: bytes | None = None
    isv_prod_id: int | None = None
    min_isv_svn: int | None = None
    report_data: bytes | None = None
    allow_simulated: bool = False
    allow_debug: bool = False
    accepted_tcb_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE})
    rejected_advisories: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a policy that could never match: a typing mistake must not look like a bad quote."""
        for name, value, size in (
            ("mr_enclave", self.mr_enclave, MEASUREMENT_SIZE),
            ("mr_signer", self.mr_signer, MEASUREMENT_SIZE),
            ("report_data", self.report_data, REPORT_DATA_SIZE),
        ):
            if value is not None and len(value) != size:
                raise SettingsError(
                    f"the policy's {name} must be {size} bytes, not {len(value)}",
                    remedy=f"pass {size * 2} hexadecimal digits; `confcom inspect` shows what a quote carries",
                )
        for name, number in (("isv_prod_id", self.isv_prod_id), ("min_isv_svn", self.min_isv_svn)):
            if number is not None and not 0 <= number <= MAX_UINT16:
                raise SettingsError(
                    f"the policy's {name} must be between 0 and {MAX_UINT16}, not {number}",
                    why="the field has 16 bits",
                    remedy="pass the number that the enclave was built with",
                )
        if TcbStatus.REVOKED in self.accepted_tcb_statuses:
            raise SettingsError(
                "a revoked TCB cannot be accepted",
                why="keys of a revoked TCB are known to be compromised",
                remedy="remove Revoked from the accepted statuses",
            )

    @property
    def names_identity(self) -> bool:
        """Whether there is an enclave identity to compare with."""
        return self.mr_enclave is not None or self.mr_signer is not None
