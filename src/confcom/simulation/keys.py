"""Keys of a simulated platform. All keys are derived from one seed, so the same seed gives the same keys."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confcom.sgx.binary import require_length
from confcom.simulation.root_seed import SEED_SIZE

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order n of P-256 (SP 800-186, 3.2.1.3)."""

_DOMAIN = b"confcom simulated platform, version 1: "
_PRIVATE_KEY_BYTES = 40
"""Length of n plus 64 bits, so that the reduction modulo n - 1 has a negligible bias (FIPS 186-5, A.2.1)."""

_SIGNATURE_ALGORITHM = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
"""Deterministic ECDSA (RFC 6979) needs no random numbers: the same inputs give the same signature everywhere."""


def derive_bytes(seed: bytes, label: str, size: int) -> bytes:
    """Derive bytes from the seed and a label (HKDF-SHA256)."""
    require_length(seed, SEED_SIZE, "a simulated platform's seed")
    return HKDF(hashes.SHA256(), size, salt=None, info=_DOMAIN + label.encode()).derive(seed)


def derive_private_key(seed: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """Derive a P-256 key from the seed and a label (FIPS 186-5, A.2.1: extra random bits)."""
    candidate = int.from_bytes(derive_bytes(seed, f"private key of {label}", _PRIVATE_KEY_BYTES), "big")
    return ec.derive_private_key(candidate % (P256_ORDER - 1) + 1, ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign with ECDSA and SHA-256 in the format of quotes and collateral: r and s, 32 bytes each, big-endian."""
    r, s = decode_dss_signature(key.sign(message, _SIGNATURE_ALGORITHM))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key in the format of quotes: X and Y, 32 bytes each, big-endian."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
