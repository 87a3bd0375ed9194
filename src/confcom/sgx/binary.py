"""Helpers for the codecs of this package: they check lengths strictly; errors name structure and field."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import Field
from typing import Any, ClassVar, Self

from confcom.errors import MalformedError

SEQUENCE = 0x30
"""The tag of a SEQUENCE in DER."""


def require_length(data: bytes, size: int, structure: str) -> None:
    if len(data) != size:
        raise MalformedError(
            f"{structure} must be {size} bytes, not {len(data)}",
            error_code="wrong-size",
            remedy="pass the structure itself, neither cut nor followed by other data",
        )


def require_range(value: int, maximum: int, name: str) -> None:
    if not 0 <= value <= maximum:
        raise MalformedError(f"{name} is not between 0 and {maximum}", error_code="out-of-range")


def der_element(tag: int, content: bytes) -> bytes:
    """Encode an element of DER (X.690): its tag of one byte, its length, its content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


class Layout:
    """A fixed-size little-endian structure, like struct.Struct, but a value that does not fit raises an error.

    The module struct silently truncates and pads bytes, but a truncated MRENCLAVE must never be signed.
    `fields` are a dataclass's fields. `codes` has one struct code (`16s`, `B`, `H`, `I`, `Q`) per field.
    """

    def __init__(self, structure: str, fields: Sequence[Field[Any]], codes: str) -> None:
        self.structure = structure
        self._struct = struct.Struct("<" + codes)
        self._names = tuple(field.name for field in fields)
        sizes = zip(self._names, codes.split(), strict=True)
        self._widths = {name: int(code[:-1]) for name, code in sizes if code.endswith("s")}
        self.size = self._struct.size

    def unpack(self, data: bytes) -> tuple[Any, ...]:
        require_length(data, self.size, self.structure)
        return self._struct.unpack(data)

    def pack(self, value: object) -> bytes:
        """Encode an object whose attributes are the fields of this structure."""
        for name, width in self._widths.items():
            require_length(getattr(value, name), width, f"{name} of {self.structure}")
        try:
            return self._struct.pack(*(getattr(value, name) for name in self._names))
        except struct.error as error:
            raise MalformedError(
                f"{self.structure} cannot be written", error_code="out-of-range", why=str(error)
            ) from error


class Structure:
    """Base class of dataclasses with a Layout, which is assigned after the dataclass's definition."""

    __slots__ = ()
    layout: ClassVar[Layout]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse exactly one structure. Raises MalformedError if the data has another length."""
        return cls(*cls.layout.unpack(data))

    def encode(self) -> bytes:
        """Encode to the structure's size. Raises MalformedError if a field does not fit."""
        return self.layout.pack(self)


class ByteReader:
    """Reads a structure whose parts declare their sizes, and never reads past the structure's end."""

    __slots__ = ("_data", "_structure", "offset")

    def __init__(self, data: bytes, structure: str) -> None:
        self._data = data
        self._structure = structure
        self.offset = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self.offset

    def take(self, size: int, field: str) -> bytes:
        start, end = self.offset, self.offset + size
        if end > len(self._data):
            raise MalformedError(
                f"{self._structure} ends inside {field}",
                error_code="truncated",
                why=f"{field} begins at byte {start} and takes {size} bytes, and {self.remaining} are left",
                remedy="pass all of it; it may have been cut on its way here",
            )
        self.offset = end
        return self._data[start:end]

    def integer(self, size: int, field: str) -> int:
        """Read the next little-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size, field), "little")

    def finish(self) -> None:
        if self.remaining:
            raise MalformedError(
                f"{self._structure} has {self.remaining} bytes too many",
                error_code="excess-bytes",
                why=f"the sizes declared in it end at byte {self.offset}, before its own size does",
            )
