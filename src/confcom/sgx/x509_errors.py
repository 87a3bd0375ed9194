"""Exceptions that the cryptography library raises for malformed or unsupported X.509 data."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE_X509 = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""For an `except` clause around loading a certificate or a revocation list, and around access to its parts, which are
decoded only on access. Only the first one is a ValueError."""
