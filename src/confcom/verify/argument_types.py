"""Checks of arguments of the public interface: a value of another type is told where it is given."""

from __future__ import annotations

import os
from pathlib import Path

from confcom.errors import SettingsError


class WrongTypeError(SettingsError, TypeError):
    """An argument has another type than it must have.

    Args:
        name: of the argument, with its article.
        expected: what it must be.
        value: what it is.
    """

    def __init__(self, name: str, expected: str, value: object) -> None:
        super().__init__(f"{name} must be {expected}, not {type(value).__name__}", remedy=f"pass {expected}")


def binary(name: str, value: object, size: int) -> bytes | None:
    """Take bytes, or the same as hexadecimal text; None stays None.

    Raises:
        WrongTypeError: anything else.
        SettingsError: another size, or text that is not hexadecimal.
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
                why=str(error),
                remedy=f"pass {size} bytes, or {size * 2} hexadecimal digits",
            ) from error
    if not isinstance(value, bytes):
        raise WrongTypeError(name, f"{size} bytes, or {size * 2} hexadecimal digits", value)
    if len(value) != size:
        raise SettingsError(
            f"{name} must be {size} bytes, not {len(value)}",
            remedy=f"pass {size} bytes, or {size * 2} hexadecimal digits; `confcom inspect` shows what a quote carries",
        )
    return value


def number(name: str, value: object, most: int) -> int | None:
    """Take an integer from 0 to `most`; None stays None.

    Raises:
        WrongTypeError: anything else, a bool among it.
        SettingsError: out of range.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongTypeError(name, f"an integer between 0 and {most}", value)
    if not 0 <= value <= most:
        raise SettingsError(
            f"{name} must be between 0 and {most}, not {value}",
            why=f"the field has {most.bit_length()} bits",
            remedy="pass the number that the enclave was built with",
        )
    return value


def boolean(name: str, value: object) -> bool:
    """Take True or False.

    Raises:
        WrongTypeError: anything else.
    """
    if not isinstance(value, bool):
        raise WrongTypeError(name, "True or False", value)
    return value


def path_argument(name: str, value: object) -> Path:
    """Take a path.

    Raises:
        WrongTypeError: neither text nor os.PathLike.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise WrongTypeError(name, "a path: text, or os.PathLike", value)
    return Path(value)
