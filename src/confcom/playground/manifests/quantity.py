"""Kubernetes quantities: `10`, `"5"`, `1500m`, `10Mi`."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 40
"""Limit for digits, larger than any real amount needs; it keeps a quantity from filling memory."""

PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
"""As the API server quotes it in its error (apimachinery, pkg/api/resource)."""

NOT_A_QUANTITY = f"quantities must match the regular expression '{PATTERN}'"

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]{1,2})")
"""At most two digits: the value of `1e999999999` would fill memory."""


def parse_quantity(text: str) -> Fraction:
    """Return the exact value of a quantity.

    Raises:
        ValueError: not a quantity; the message is the API server's.
    """
    match = re.fullmatch(PATTERN[1:-1], text, re.ASCII)
    if match is None or len(match[1]) > MAX_DIGITS:
        raise ValueError(NOT_A_QUANTITY)
    number, suffix = match.groups()
    if (scale := _SUFFIXES.get(suffix)) is None:
        exponent = _EXPONENT.fullmatch(suffix)
        if exponent is None:
            raise ValueError(NOT_A_QUANTITY)
        scale = Fraction(10) ** int(exponent[1])
    try:
        return Fraction(number) * scale
    except ValueError:
        raise ValueError(NOT_A_QUANTITY) from None


def has_suffix(text: str) -> bool:
    """Return whether a unit or an exponent follows the number."""
    return not text.lstrip("+-").replace(".", "").isdigit()
