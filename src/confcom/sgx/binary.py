"""What the codecs of this room share: strict lengths, and errors that name the structure and the field."""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from confcom.errors import MalformedError


def require_length(data: bytes, size: int, structure: str) -> None:
    """Refuse bytes that are not exactly one structure.

    Args:
        data: the bytes to check.
        size: the structure's size in bytes.
        structure: its name in Intel's documents, for the message.

    Raises:
        MalformedError: the length differs.
    """
    if len(data) != size:
        raise MalformedError(
            f"{structure} must be {size} bytes, not {len(data)}",
            remedy="pass the structure itself, neither cut nor followed by other data",
        )


def _getter(names: tuple[str, ...]) -> Callable[[object], tuple[Any, ...]]:
    """Reads attributes in one call, a third of the time of one by one; of one name attrgetter makes no tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


class Layout:
    """A fixed-size little-endian structure: struct's formats, but a value that does not fit is an error.

    struct cuts and pads byte strings without a word; a report whose MRENCLAVE was cut must never reach a signature.

    Args:
        structure: the name for messages, with its article.
        fields: name and struct code (`16s`, `B`, `H`, `I`, `Q`) of every field, in order.
    """

    def __init__(self, structure: str, **fields: str) -> None:
        self.structure = structure
        self._struct = struct.Struct("<" + "".join(fields.values()))
        widths = {name: int(code[:-1]) for name, code in fields.items() if code.endswith("s")}
        self._values = _getter(tuple(fields))
        self._strings = tuple(widths)
        self._string_values = _getter(self._strings)
        self._widths = tuple(widths.values())
        self.size = self._struct.size

    def unpack(self, data: bytes) -> tuple[Any, ...]:
        """The fields' values, in order.

        Raises:
            MalformedError: not exactly this structure's size.
        """
        require_length(data, self.size, self.structure)
        return self._struct.unpack(data)

    def pack(self, value: object) -> bytes:
        """The bytes of an object that has this structure's fields as attributes.

        Raises:
            MalformedError: a field is too long, too short, or an integer out of range.
        """
        lengths = tuple(map(len, self._string_values(value)))
        if lengths != self._widths:
            raise self._misfit(lengths)
        try:
            return self._struct.pack(*self._values(value))
        except struct.error as error:
            raise MalformedError(f"{self.structure} cannot be written", why=str(error)) from error

    def _misfit(self, lengths: tuple[int, ...]) -> MalformedError:
        name, width, length = next(
            found for found in zip(self._strings, self._widths, lengths, strict=True) if found[1] != found[2]
        )
        return MalformedError(f"{name} of {self.structure} must be {width} bytes, not {length}")


class ByteReader:
    """Reads a structure whose parts declare their own sizes; never past the end.

    Args:
        data: the whole structure.
        structure: its name for messages, with its article.
    """

    __slots__ = ("_data", "_offset", "_structure")

    def __init__(self, data: bytes, structure: str) -> None:
        self._data = data
        self._offset = 0
        self._structure = structure

    @property
    def remaining(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._offset

    def take(self, size: int, field: str) -> bytes:
        """The next bytes.

        Raises:
            MalformedError: fewer are left.
        """
        if size > self.remaining:
            raise MalformedError(
                f"{self._structure} ends inside {field}",
                why=f"{field} takes {size} bytes and {self.remaining} are left",
                remedy="pass all of it; it may have been cut on its way here",
            )
        start = self._offset
        self._offset += size
        return self._data[start : self._offset]

    def integer(self, size: int, field: str) -> int:
        """The next little-endian unsigned integer of `size` bytes.

        Raises:
            MalformedError: fewer bytes are left.
        """
        return int.from_bytes(self.take(size, field), "little")

    def rest(self) -> bytes:
        """Everything that has not been read."""
        start = self._offset
        self._offset = len(self._data)
        return self._data[start:]

    def finish(self) -> None:
        """Refuse what is left over.

        Raises:
            MalformedError: bytes are left.
        """
        if self.remaining:
            raise MalformedError(
                f"{self._structure} has {self.remaining} bytes too many",
                why="the sizes declared in it add up to less than its own size",
            )
