"""Type checks for arguments of the public interface, so that a wrong type is reported at the call that passed it."""

from __future__ import annotations

import os
from pathlib import Path

from confcom.errors import SettingsError


class WrongTypeError(SettingsError, TypeError):
    """An argument has the wrong type.

    Args:
        name: the argument's name with its article, such as "the quote".
        expected: the expected type, in words.
        value: the value that was passed.
    """

    error_code = "wrong-type"

    def __init__(self, name: str, expected: str, value: object) -> None:
        super().__init__(f"{name} must be {expected}, not {type(value).__name__}", remedy=f"pass {expected}")


def binary(name: str, value: object, size: int) -> bytes | None:
    """Return bytes that were given as bytes or as hexadecimal text; None stays None.

    Raises:
        WrongTypeError: the value has another type.
        SettingsError: the size is wrong, or the text is not hexadecimal.
    """
    if value is None:
        return None
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError as error:
            raise SettingsError(
                f"{name} is text that is not hexadecimal",
                error_code="not-hexadecimal",
                why=str(error),
                remedy=f"pass {size} bytes, or {size * 2} hexadecimal digits",
            ) from error
    if not isinstance(value, bytes):
        raise WrongTypeError(name, f"{size} bytes, or {size * 2} hexadecimal digits", value)
    if len(value) != size:
        raise SettingsError(
            f"{name} must be {size} bytes, not {len(value)}",
            error_code="wrong-size",
            remedy=f"pass {size} bytes, or {size * 2} hexadecimal digits; `confcom inspect` shows what a quote carries",
        )
    return value


def number(name: str, value: object, most: int) -> int | None:
    """Return the value if it is an integer from 0 to `most`; None stays None.

    Raises:
        WrongTypeError: the value has another type; a bool is not accepted as an integer.
        SettingsError: the value is out of range.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongTypeError(name, f"an integer between 0 and {most}", value)
    if not 0 <= value <= most:
        raise SettingsError(
            f"{name} must be between 0 and {most}, not {value}",
            error_code="out-of-range",
            why=f"the field has {most.bit_length()} bits",
            remedy="pass the number that the enclave was built with",
        )
    return value


def boolean(name: str, value: object) -> bool:
    """Return the value if it is True or False.

    Raises:
        WrongTypeError: the value has another type.
    """
    if not isinstance(value, bool):
        raise WrongTypeError(name, "True or False", value)
    return value


def path_argument(name: str, value: object) -> Path:
    """Return the value as a Path.

    Raises:
        WrongTypeError: the value is neither text nor os.PathLike.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise WrongTypeError(name, "a path: text, or os.PathLike", value)
    return Path(value)
