"""protobuf's wire format by hand, right and wrong on purpose.

What is sent must hold mistakes that no protobuf library writes, and what is expected must not come from the code under
test, so nothing here uses protobuf. The limits are those of the library that the helper uses (upb, measured): they
decide whether bytes are a message at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER_SIZE: Final = 4
"""An AESM frame: four bytes of length, little-endian, and the body."""

MAX_GROUP_DEPTH: Final = 100
"""Groups within groups, the message that holds them counted where it is a sub-message."""

MAX_VARINT_SIZE: Final = 10
"""Bytes of a number; longer ones are no protobuf, shorter ones need not be the shortest."""

MAX_SHORT_VARINT_SIZE: Final = 5
"""Bytes of a tag or a length, which have 32 bits."""

MAX_TAG: Final = 2**32 - 1
MAX_LENGTH: Final = 2**31 - 1
MAX_NUMBER: Final = 2**64 - 1


class WireType(IntEnum):
    """How a field's value is written; 6 and 7 are none."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    GROUP = 3
    END_GROUP = 4
    FIXED32 = 5


class NotProtobufError(ValueError):
    """Bytes that no protobuf library takes for a message."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that are written as they are, where a field could be."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """A field as protobuf writes it: a number as a varint; bytes and messages after their length."""

    number: int
    value: int | bytes | tuple[Field | Raw, ...]


Node = Field | Raw
Tree = tuple[Node, ...]
"""A message."""


@dataclass(frozen=True, slots=True)
class Found:
    """A field that was read. The value of a group, and of fixed-width numbers, is its bytes."""

    number: int
    wire_type: WireType
    value: int | bytes
    start: int
    end: int


def varint(value: int, size: int = 0) -> bytes:
    """A number; in at least `size` bytes, of which the last are needless."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    while len(out) < size:
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a value."""
    return varint(number << 3 | wire_type)


def encode(tree: Tree) -> bytes:
    """A message's bytes."""
    return b"".join(map(_encode_node, tree))


def frame(body: bytes) -> bytes:
    """Header and body."""
    return len(body).to_bytes(HEADER_SIZE, "little") + body


def parse(body: bytes) -> Tree:
    """Bytes to a tree that encodes to the same message: what sub-messages hold is opened where it is a message."""
    return tuple(_node(body, found, deeper=True) for found in scan(body))


def scan(data: bytes, depth: int = MAX_GROUP_DEPTH, lowest: int = 1) -> Iterator[Found]:
    """A message's fields, in their order. Sub-messages are not opened.

    Args:
        data: the message.
        depth: how many groups may be within each other.
        lowest: number that a field may have. It is 1, but upb bears 0 in a message of which it knows no field.

    Raises:
        NotProtobufError: it is no message.
    """
    at = 0
    while at < len(data):
        found = _read(data, at, depth, lowest)
        if found.wire_type is WireType.END_GROUP:
            raise NotProtobufError("a group ends that did not begin")
        yield found
        at = found.end


def _encode_node(node: Node) -> bytes:
    if isinstance(node, Raw):
        return node.data
    if isinstance(node.value, int):
        return tag(node.number, WireType.VARINT) + varint(node.value)
    data = node.value if isinstance(node.value, bytes) else encode(node.value)
    return tag(node.number, WireType.BYTES) + varint(len(data)) + data


def _node(body: bytes, found: Found, *, deeper: bool) -> Node:
    match found.wire_type, found.value:
        case WireType.VARINT, int(value):
            return Field(found.number, value)
        case WireType.BYTES, bytes(value):
            if deeper:
                try:
                    return Field(found.number, tuple(_node(value, inner, deeper=False) for inner in scan(value)))
                except NotProtobufError:
                    pass
            return Field(found.number, value)
        case _:
            return Raw(body[found.start : found.end])


def _read(data: bytes, start: int, depth: int, lowest: int) -> Found:
    number, at = _varint(data, start, MAX_SHORT_VARINT_SIZE)
    if number > MAX_TAG or number >> 3 < lowest or number & 7 > WireType.FIXED32:
        raise NotProtobufError("no such field or wire type")
    wire_type, number = WireType(number & 7), number >> 3
    value: int | bytes = b""
    match wire_type:
        case WireType.VARINT:
            value, at = _varint(data, at, MAX_VARINT_SIZE)
        case WireType.GROUP:
            at = _skip_group(data, at, number, depth, lowest)
        case WireType.END_GROUP:
            pass
        case _:
            if wire_type is WireType.BYTES:
                length, at = _varint(data, at, MAX_SHORT_VARINT_SIZE)
            else:
                length = 8 if wire_type is WireType.FIXED64 else 4
            if length > MAX_LENGTH or at + length > len(data):
                raise NotProtobufError("a field is cut")
            value, at = data[at : at + length], at + length
    return Found(number, wire_type, value, start, at)


def _skip_group(data: bytes, at: int, number: int, depth: int, lowest: int) -> int:
    if depth == 0:
        raise NotProtobufError("groups are too deep")
    while True:
        found = _read(data, at, depth - 1, lowest)
        at = found.end
        if found.wire_type is WireType.END_GROUP:
            if found.number != number:
                raise NotProtobufError("another group ends than began")
            return at


def _varint(data: bytes, at: int, max_size: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + max_size]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & MAX_NUMBER, at + index + 1
    raise NotProtobufError("a number is cut or too long")
