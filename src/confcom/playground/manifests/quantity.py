"""Kubernetes quantities: `10`, `"5"`, `1500m`, `10Mi`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

MAX_DIGITS = 40
"""Limit for digits, larger than any real amount needs; it keeps a quantity from filling memory."""

PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
"""As the API server quotes it in its error (apimachinery, pkg/api/resource)."""

NOT_A_QUANTITY = f"quantities must match the regular expression '{PATTERN}'"

_DECIMAL = {suffix: Fraction(1000) ** power for power, suffix in enumerate(("n", "u", "m", "", *"kMGTPE"), start=-3)}
_BINARY = {f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}
_SUFFIXES = _DECIMAL | _BINARY
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]{1,2})")
"""At most two digits: the value of `1e999999999` would fill memory."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity: the text as it was written, and its exact value."""

    text: str
    value: Fraction

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a quantity.

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
            return cls(text, Fraction(number) * scale)
        except ValueError:
            raise ValueError(NOT_A_QUANTITY) from None

    def __str__(self) -> str:
        """Return the text; a fraction is written as the API server writes it, such as `500m`."""
        for suffix in ("m", "u", "n"):
            if self.value.denominator != 1 and (count := self.value / _SUFFIXES[suffix]).denominator == 1:
                return f"{count}{suffix}"
        return self.text

    @property
    def has_suffix(self) -> bool:
        """Whether a unit or an exponent follows the number."""
        return not self.text.lstrip("+-").replace(".", "").isdigit()
