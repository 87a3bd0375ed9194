"""The attestation key id, with which clients and AESM name a kind of quote.

Layout: sgx_ql_att_key_id_t (158 bytes, packed) inside sgx_att_key_id_ext_t (256 bytes), Intel's sgx_quote.h.
"""

from dataclasses import dataclass, fields
from enum import IntEnum

from confcom.sgx.binary import Layout, Structure
from confcom.sgx.report import INTEL_QE_MRSIGNER

ATT_KEY_ID_SIZE = 256
ATT_KEY_ID_COMPARED = 158
"""Number of bytes, from the first, that identify a key. Clients may set the rest (spid, att_key_type,
reserved) freely, as in Intel's quote_ex service."""


class AttKeyAlgorithm(IntEnum):
    """Values of an attestation key's algorithm_id (sgx_quote.h)."""

    EPID_UNLINKABLE = 0
    EPID_LINKABLE = 1
    ECDSA_P256 = 2
    ECDSA_P384 = 3


ATT_KEY_TYPES = {algorithm.value: algorithm.name for algorithm in AttKeyAlgorithm}
"""Names of the values of a quote's att_key_type; algorithm_id has the same values (sgx_quote_3.h)."""


@dataclass(frozen=True, slots=True)
class AttKeyId(Structure):
    """One attestation key id, 256 bytes on the wire."""

    id: int = 0
    version: int = 0
    mrsigner_length: int = 32
    mrsigner: bytes = bytes(48)
    prod_id: int = 0
    extended_prod_id: bytes = bytes(16)
    config_id: bytes = bytes(64)
    family_id: bytes = bytes(16)
    algorithm_id: int = AttKeyAlgorithm.ECDSA_P256
    spid: bytes = bytes(16)
    att_key_type: int = 0
    reserved: bytes = bytes(80)


AttKeyId.layout = Layout("an attestation key id", fields(AttKeyId), "H H H 48s I 16s 64s 16s I 16s H 80s")

ECDSA_P256_KEY_ID = AttKeyId(mrsigner=INTEL_QE_MRSIGNER + bytes(16), prod_id=1)
"""The only key id of DCAP quoting; the simulated QE has this id too, because clients hard-code it."""
