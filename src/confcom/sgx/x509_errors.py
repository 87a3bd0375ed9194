"""What the cryptography library raises for bytes that are not, or not quite, X.509."""

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
"""For an `except` clause around loading a certificate or a revocation list, and around using its parts, which are
decoded only when they are asked for. Three of them are no ValueError."""
