"""The unit that quotes are measured in: what a quote cannot do without."""

from __future__ import annotations

import secrets
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confcom.sgx.quote import SIGNED_PART_SIZE


def seconds_per_signature(count: int, *, deterministic: bool = False) -> float:
    """CPU time of one ECDSA signature, P-256 with SHA-256, over as many bytes as a quote signs.

    Args:
        count: how many are made.
        deterministic: with RFC 6979's nonces, as the simulated platform signs. The library's default draws them at
            random, which is cheaper, and so the stricter unit.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    message = secrets.token_bytes(SIGNED_PART_SIZE)
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=deterministic)
    key.sign(message, algorithm)
    started = time.thread_time_ns()
    for _ in range(count):
        key.sign(message, algorithm)
    return (time.thread_time_ns() - started) / count / 1e9
